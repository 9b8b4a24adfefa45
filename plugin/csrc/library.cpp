// What TensorRT finds in this library: the two entry points of IPluginRegistry::loadLibrary, and a
// constructor that registers the plugins when something else loads the library.
//
// `polygraphy run --plugins` and `trtexec --staticPlugins` only dlopen it. Then the constructor
// looks for a TensorRT in the process and registers the plugins there, but only if its major version
// is the one that this was compiled for: the registry's vtable differs between majors. libnvinfer is
// not linked, so the same file loads in any version.
#include "plugin.h"

#include <NvInferVersion.h>

#include <array>
#include <cstring>
#include <dlfcn.h>
#include <execinfo.h>
#include <link.h>

#define CODETR_EXPORT extern "C" __attribute__((visibility("default")))

namespace {

using Creators = std::array<nvinfer1::IPluginCreatorInterface*, 14>;

// Never destroyed: registries may outlive the static objects of this library.
Creators const& creators() {
    static Creators const instances{new codetr::Creator(codetr::ms_deform_attn_operator()),
                                    new codetr::Creator(codetr::window_attn_operator()),
                                    new codetr::Creator(codetr::group_norm_operator()),
                                    new codetr::Creator(codetr::linear_operator()),
                                    new codetr::Creator(codetr::linear_add_operator()),
                                    new codetr::Creator(codetr::layer_norm_operator()),
                                    new codetr::Creator(codetr::window_attn_to_fp8_operator()),
                                    new codetr::Creator(codetr::layer_norm_to_fp8_operator()),
                                    new codetr::Creator(codetr::linear_fp8_operator()),
                                    new codetr::Creator(codetr::linear_add_fp8_operator()),
                                    new codetr::Creator(codetr::linear_fp8_to_fp8_operator()),
                                    new codetr::Creator(codetr::add_layer_norm_operator()),
                                    new codetr::Creator(codetr::merge_layer_norm_operator()),
                                    new codetr::Creator(codetr::layer_norm_and_fp8_operator())};
    return instances;
}

bool is_tensorrt(char const* path) {
    constexpr char kName[] = "libnvinfer.so";
    char const* slash = std::strrchr(path, '/');
    return std::strncmp(slash != nullptr ? slash + 1 : path, kName, sizeof(kName) - 1) == 0;
}

// loadLibrary dlopens this file and would then find the plugins registered already, and fail.
bool called_by_tensorrt() {
    std::array<void*, 64> frames{};
    int const count = backtrace(frames.data(), static_cast<int>(frames.size()));
    for (int i = 0; i < count; ++i) {
        Dl_info info{};
        if (dladdr(frames[i], &info) != 0 && is_tensorrt(info.dli_fname)) {
            return true;
        }
    }
    return false;
}

struct Paths {
    std::array<char const*, 4> each;
    size_t count;
};

int note_tensorrt(dl_phdr_info* info, size_t, void* to) {
    auto& paths = *static_cast<Paths*>(to);
    if (is_tensorrt(info->dlpi_name) && paths.count < paths.each.size()) {
        paths.each[paths.count++] = info->dlpi_name;
    }
    return 0;
}

template <typename Function> Function* find_function(void* library, char const* name) {
    return reinterpret_cast<Function*>(dlsym(library, name));
}

void register_in(char const* path) {
    // It may have been loaded with RTLD_LOCAL, so its functions are asked for one by one.
    void* library = dlopen(path, RTLD_NOLOAD | RTLD_LAZY);
    if (library == nullptr) {
        return;
    }
    auto* major = find_function<decltype(getInferLibMajorVersion)>(library, "getInferLibMajorVersion");
    auto* registry = find_function<decltype(getPluginRegistry)>(library, "getPluginRegistry");
    if (major != nullptr && registry != nullptr && major() == NV_TENSORRT_MAJOR) {
        for (nvinfer1::IPluginCreatorInterface* creator : creators()) {
            registry()->registerCreator(*creator, codetr::kPluginNamespace);
        }
    }
    dlclose(library); // the reference that dlopen added
}

__attribute__((constructor)) void register_plugins() {
    Paths paths{};
    dl_iterate_phdr(note_tensorrt, &paths);
    if (paths.count == 0 || called_by_tensorrt()) {
        return;
    }
    for (size_t i = 0; i < paths.count; ++i) {
        register_in(paths.each[i]);
    }
}

} // namespace

CODETR_EXPORT nvinfer1::IPluginCreatorInterface* const* getCreators(int32_t& count) {
    count = static_cast<int32_t>(creators().size());
    return creators().data();
}

// loadLibrary wants it. The finder is not kept: its vtable differs between TensorRT 10 and 11.
CODETR_EXPORT void setLoggerFinder(nvinfer1::ILoggerFinder*) {}
