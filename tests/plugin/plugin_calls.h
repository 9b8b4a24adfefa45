// What checks of plugins have in common: they call them as TensorRT does.
#pragma once

#include <NvInferRuntime.h>

#include <cstdio>
#include <cstring>
#include <memory>
#include <string>
#include <unistd.h>
#include <vector>

extern int failures;

#define CHECK(condition)                                                                           \
    if (!(condition)) {                                                                            \
        std::printf("%s, line %d: %s\n", __FILE__, __LINE__, #condition);                          \
        ++failures;                                                                                \
    }

namespace plugin_calls {

using namespace nvinfer1;

// What `call` prints to stderr.
template <typename Call> std::string said(Call const& call) {
    std::FILE* const file = std::tmpfile();
    int const stderr_copy = dup(STDERR_FILENO);
    dup2(fileno(file), STDERR_FILENO);
    call();
    dup2(stderr_copy, STDERR_FILENO);
    close(stderr_copy);
    std::string text(static_cast<size_t>(lseek(fileno(file), 0, SEEK_END)), ' ');
    std::rewind(file);
    text.resize(std::fread(text.data(), 1, text.size(), file));
    std::fclose(file);
    return text;
}

// Whether `call` returns false and says why in one line that begins like this.
template <typename Call>
bool refuses(std::string const& plugin, std::string const& why, Call const& call) {
    bool accepted = true;
    std::string const text = said([&] { accepted = call(); });
    bool const fits = text.rfind(plugin + " 'node': " + why, 0) == 0
                      && text.find('\n') == text.size() - 1;
    if (!fits) {
        std::printf("wanted: %s\ngot: %s\n", why.c_str(), text.c_str());
    }
    return !accepted && fits;
}

inline std::unique_ptr<IPluginV3> create(IPluginCreatorV3One& creator,
                                         std::vector<PluginField> fields,
                                         TensorRTPhase phase = TensorRTPhase::kBUILD) {
    PluginFieldCollection const collection{static_cast<int32_t>(fields.size()), fields.data()};
    return std::unique_ptr<IPluginV3>(creator.createPlugin("node", &collection, phase));
}

template <typename Capability> Capability& capability(IPluginV3& plugin, PluginCapabilityType type) {
    return *static_cast<Capability*>(plugin.getCapabilityInterface(type));
}
inline IPluginV3OneBuild& build(IPluginV3& plugin) {
    return capability<IPluginV3OneBuild>(plugin, PluginCapabilityType::kBUILD);
}
inline IPluginV3OneRuntime& runtime(IPluginV3& plugin) {
    return capability<IPluginV3OneRuntime>(plugin, PluginCapabilityType::kRUNTIME);
}

} // namespace plugin_calls
