// Makes plugins from the attributes of an ONNX node or of a plan.
#include "plugin.h"
#include "report.h"

#include <cstring>
#include <new>

namespace codetr {

namespace trt = nvinfer1;

namespace {

char const* name_of(trt::PluginFieldType type) {
    switch (type) {
    case trt::PluginFieldType::kFLOAT16: return "float16";
    case trt::PluginFieldType::kFLOAT32: return "float32";
    case trt::PluginFieldType::kFLOAT64: return "float64";
    case trt::PluginFieldType::kINT8: return "int8";
    case trt::PluginFieldType::kINT16: return "int16";
    case trt::PluginFieldType::kINT32: return "int32";
    case trt::PluginFieldType::kINT64: return "int64";
    case trt::PluginFieldType::kCHAR: return "text";
    default: return "of another type";
    }
}

bool is_called(trt::PluginField const& field, char const* name) {
    return field.name != nullptr && std::strcmp(field.name, name) == 0;
}

bool all_known(trt::PluginFieldCollection const& fields, char const* layer) {
    for (int32_t i = 0; i < fields.nbFields; ++i) {
        trt::PluginField const& field = fields.fields[i];
        if (!is_called(field, kNumHeads) && !is_called(field, kNumPoints)) {
            report(layer, "got an attribute %s; wanted %s and %s",
                   field.name != nullptr ? field.name : "without a name", kNumHeads, kNumPoints);
            return false;
        }
    }
    return true;
}

// The one field called `name`; null if there is none or several.
trt::PluginField const* find_field(trt::PluginFieldCollection const& fields, char const* name,
                                   char const* layer) {
    trt::PluginField const* found = nullptr;
    for (int32_t i = 0; i < fields.nbFields; ++i) {
        if (is_called(fields.fields[i], name)) {
            if (found != nullptr) {
                report(layer, "attribute %s is given twice", name);
                return nullptr;
            }
            found = &fields.fields[i];
        }
    }
    if (found == nullptr) {
        report(layer, "attribute %s is missing", name);
    }
    return found;
}

// The value of that field; 0, which no attribute may be, if it cannot be had.
int32_t read_field(trt::PluginFieldCollection const& fields, char const* name, char const* layer) {
    trt::PluginField const* field = find_field(fields, name, layer);
    if (field == nullptr) {
        return 0;
    }
    if (field->type != trt::PluginFieldType::kINT32) {
        report(layer, "attribute %s is %s; wanted int32", name, name_of(field->type));
        return 0;
    }
    int32_t const length = field->data != nullptr ? field->length : 0;
    if (length != 1) {
        report(layer, "attribute %s has %d values; wanted one", name, length);
        return 0;
    }
    int32_t const value = *static_cast<int32_t const*>(field->data);
    if (value <= 0) {
        report(layer, "attribute %s is %d; wanted a positive number", name, value);
        return 0;
    }
    return value;
}

} // namespace

trt::IPluginV3* Creator::createPlugin(char const* layer, trt::PluginFieldCollection const* fields,
                                      trt::TensorRTPhase) noexcept {
    trt::PluginFieldCollection const none{};
    trt::PluginFieldCollection const& given = fields != nullptr ? *fields : none;
    if (!all_known(given, layer)) {
        return nullptr;
    }
    int32_t const heads = read_field(given, kNumHeads, layer);
    int32_t const points = heads != 0 ? read_field(given, kNumPoints, layer) : 0;
    return points != 0 ? new (std::nothrow) Plugin({heads, points}, layer) : nullptr;
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
