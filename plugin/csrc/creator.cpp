// Makes plugins from the attributes of an ONNX node or of a plan.
#include "plugin.h"

#include <cstring>
#include <new>

namespace codetr {

namespace trt = nvinfer1;

namespace {

// The value of the one int32 field called `name`; 0, which no attribute may be, if there is none.
int32_t read_field(trt::PluginFieldCollection const& fields, char const* name) {
    for (int32_t i = 0; i < fields.nbFields; ++i) {
        trt::PluginField const& field = fields.fields[i];
        if (field.name != nullptr && std::strcmp(field.name, name) == 0) {
            bool const readable = field.type == trt::PluginFieldType::kINT32 && field.length == 1
                                  && field.data != nullptr;
            return readable ? *static_cast<int32_t const*>(field.data) : 0;
        }
    }
    return 0;
}

} // namespace

trt::IPluginV3* Creator::createPlugin(char const*, trt::PluginFieldCollection const* fields,
                                      trt::TensorRTPhase) noexcept {
    if (fields == nullptr || fields->nbFields != getFieldNames()->nbFields) {
        return nullptr;
    }
    Attributes const attributes(read_field(*fields, kNumHeads), read_field(*fields, kNumPoints));
    if (attributes.heads <= 0 || attributes.points <= 0) {
        return nullptr;
    }
    return new (std::nothrow) Plugin(attributes);
}

trt::PluginFieldCollection const* Creator::getFieldNames() noexcept {
    static trt::PluginField const kFields[] = {
        {kNumHeads, nullptr, trt::PluginFieldType::kINT32, 1},
        {kNumPoints, nullptr, trt::PluginFieldType::kINT32, 1},
    };
    static trt::PluginFieldCollection const kCollection{2, kFields};
    return &kCollection;
}

} // namespace codetr
