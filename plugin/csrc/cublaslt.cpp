#include "cublaslt.h"

#include <cstdio>
#include <dlfcn.h>

namespace codetr {
namespace {

constexpr char const* kNames[] = {"libcublasLt.so.13", "libcublasLt.so.12"};

void* load() {
    // First one that is loaded already: a second in the same process would take its memory again.
    for (int const flags : {RTLD_NOLOAD | RTLD_NOW, RTLD_NOW}) {
        for (char const* name : kNames) {
            if (void* const library = dlopen(name, flags | RTLD_LOCAL)) {
                return library;
            }
        }
    }
    return nullptr;
}

template <typename Function>
bool find(void* library, char const* name, Function& function) {
    function = reinterpret_cast<Function>(dlsym(library, name));
    return function != nullptr;
}

CublasLt load_functions() {
    CublasLt lt{};
    void* const library = load();
    if (library == nullptr) {
        std::snprintf(lt.missing.data(), lt.missing.size(),
                      "found neither %s nor %s (%s); install nvidia-cublas and name the folder of "
                      "its libraries in LD_LIBRARY_PATH",
                      kNames[0], kNames[1], dlerror());
        return lt;
    }
    bool const complete =
        find(library, "cublasLtCreate", lt.create)
        && find(library, "cublasLtGetStatusName", lt.status_name)
        && find(library, "cublasLtMatmulDescCreate", lt.create_product)
        && find(library, "cublasLtMatmulDescDestroy", lt.destroy_product)
        && find(library, "cublasLtMatmulDescSetAttribute", lt.set_product)
        && find(library, "cublasLtMatrixLayoutCreate", lt.create_layout)
        && find(library, "cublasLtMatrixLayoutDestroy", lt.destroy_layout)
        && find(library, "cublasLtMatmulPreferenceCreate", lt.create_preference)
        && find(library, "cublasLtMatmulPreferenceDestroy", lt.destroy_preference)
        && find(library, "cublasLtMatmulPreferenceSetAttribute", lt.set_preference)
        && find(library, "cublasLtMatmulAlgoGetHeuristic", lt.find_algorithms)
        && find(library, "cublasLtMatmul", lt.multiply);
    if (!complete) {
        std::snprintf(lt.missing.data(), lt.missing.size(),
                      "the cuBLASLt of this process lacks a function (%s)", dlerror());
    }
    return lt;
}

} // namespace

CublasLt const& cublaslt() noexcept {
    static CublasLt const functions = load_functions();
    return functions;
}

} // namespace codetr
