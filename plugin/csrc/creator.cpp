// Makes plugins from the attributes of an ONNX node or of a plan.
#include "plugin.h"

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
    return field.name != nullptr && name != nullptr && std::strcmp(field.name, name) == 0;
}

bool all_known(trt::PluginFieldCollection const& fields, Operator const& op, Label const& label) {
    auto const& [first, second] = op.attributes;
    for (int32_t i = 0; i < fields.nbFields; ++i) {
        trt::PluginField const& field = fields.fields[i];
        if (!is_called(field, first.name) && !is_called(field, second.name)) {
            report(label, "got an attribute %s; wanted %s%s%s",
                   field.name != nullptr ? field.name : "without a name",
                   first.name != nullptr ? first.name : "none",
                   second.name != nullptr ? " and " : "",
                   second.name != nullptr ? second.name : "");
            return false;
        }
    }
    return true;
}

// The one field called `name`; null if there is none or several.
trt::PluginField const* find_field(trt::PluginFieldCollection const& fields, char const* name,
                                   Label const& label) {
    trt::PluginField const* found = nullptr;
    for (int32_t i = 0; i < fields.nbFields; ++i) {
        if (is_called(fields.fields[i], name)) {
            if (found != nullptr) {
                report(label, "attribute %s is given twice", name);
                return nullptr;
            }
            found = &fields.fields[i];
        }
    }
    if (found == nullptr) {
        report(label, "attribute %s is missing", name);
    }
    return found;
}

// Whether the attribute is there and fits; then `value` is what it is.
bool read_field(trt::PluginFieldCollection const& fields, Attribute const& attribute,
                Label const& label, int32_t& value) {
    char const* name = attribute.name;
    trt::PluginField const* field = find_field(fields, name, label);
    if (field == nullptr) {
        return false;
    }
    if (field->type != trt::PluginFieldType::kINT32) {
        report(label, "attribute %s is %s; wanted int32", name, name_of(field->type));
        return false;
    }
    int32_t const length = field->data != nullptr ? field->length : 0;
    if (length != 1) {
        report(label, "attribute %s has %d values; wanted one", name, length);
        return false;
    }
    std::memcpy(&value, field->data, sizeof(value)); // in a plan it may lie anywhere
    if (value < attribute.lowest || value > attribute.highest) {
        char const* const wanted = attribute.highest == 1 ? "0 or 1" : "0 or more";
        report(label, "attribute %s is %d; wanted %s", name, value,
               attribute.lowest == 1 ? "a positive number" : wanted);
        return false;
    }
    return true;
}

} // namespace

Creator::Creator(Operator const& op) noexcept
    : operator_(op),
      names_{{{op.attributes[0].name, nullptr, trt::PluginFieldType::kINT32, 1},
              {op.attributes[1].name, nullptr, trt::PluginFieldType::kINT32, 1}}},
      collection_{op.attribute_count, names_.data()} {}

trt::IPluginV3* Creator::createPlugin(char const* layer, trt::PluginFieldCollection const* fields,
                                      trt::TensorRTPhase) noexcept {
    trt::PluginFieldCollection const none{};
    bool const any = fields != nullptr && fields->fields != nullptr;
    trt::PluginFieldCollection const& given = any ? *fields : none;
    Label const label{operator_.name, layer};
    Values values{};
    bool fit = all_known(given, operator_, label);
    for (int32_t i = 0; i < operator_.attribute_count && fit; ++i) {
        fit = read_field(given, operator_.attributes[i], label, values[i]);
    }
    return fit ? new (std::nothrow) Plugin(operator_, values, layer) : nullptr;
}

trt::PluginFieldCollection const* Creator::getFieldNames() noexcept { return &collection_; }

} // namespace codetr
