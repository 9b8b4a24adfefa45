//     codetr_hostile path/to/libcodetr_plugin.so CHECK
// runs one of kChecks, prints what is wrong and how many calls there were; the exit code is 1 if
// something was wrong.
#include "hostile.h"

#include <algorithm>
#include <dlfcn.h>

int failures = 0;

namespace hostile {

int64_t calls = 0;
Ear ear;

std::vector<PluginField> fields(Case const& of, Values const& values) {
    std::vector<PluginField> all;
    for (size_t i = 0; i < values.size() && of.attributes[i].name != nullptr; ++i) {
        all.push_back({of.attributes[i].name, &values[i], PluginFieldType::kINT32, 1});
    }
    return all;
}

std::unique_ptr<IPluginV3> make(IPluginCreatorV3One& creator, Case const& of,
                                Values const& values) {
    return create(creator, fields(of, values));
}

namespace {

struct Check {
    char const* name;
    void (*run)(IPluginCreatorV3One&, Case const&);
};
constexpr Check kChecks[] = {{"creation", check_creation},     {"formats", check_formats},
                             {"shapes", check_shapes},         {"outputs", check_outputs},
                             {"launches", check_launches},     {"workspaces", check_workspaces},
                             {"copies", check_copies}};

void run(Check const& check, void* library) {
    using GetCreators = IPluginCreatorInterface* const*(int32_t&);
    auto* const get_creators = reinterpret_cast<GetCreators*>(dlsym(library, "getCreators"));
    int32_t count = 0;
    IPluginCreatorInterface* const* const creators = get_creators(count);
    CHECK(count == 14);
    for (Case const* of : {&kSampling, &kWindows, &kNorm, &kRows, &kMaps, &kTokens, &kSums, &kMerged,
                           &kWindowsToFp8, &kRowsToFp8, &kMapsFp8, &kTokensFp8, &kMapsFp8ToFp8,
                           &kRowsAndFp8}) {
        auto const creator = std::find_if(creators, creators + count, [&](auto* each) {
            return of->op == static_cast<IPluginCreatorV3One*>(each)->getPluginName();
        });
        check.run(*static_cast<IPluginCreatorV3One*>(*creator), *of);
    }
    std::printf("%s: %lld calls\n", check.name, static_cast<long long>(calls));
}

} // namespace
} // namespace hostile

int main(int count, char** arguments) {
    std::setvbuf(stdout, nullptr, _IOLBF, BUFSIZ); // what was found stays if a sanitizer ends this
    void* const library = count == 3 ? dlopen(arguments[1], RTLD_NOW | RTLD_LOCAL) : nullptr;
    if (library == nullptr) {
        std::printf("%s\n", count == 3 ? dlerror() : "give a library and what to check");
        return 1;
    }
    for (hostile::Check const& check : hostile::kChecks) {
        if (std::strcmp(check.name, arguments[2]) == 0) {
            hostile::run(check, library);
            return failures > 0;
        }
    }
    std::printf("there is no check %s\n", arguments[2]);
    return 1;
}
