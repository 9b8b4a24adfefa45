// Makes plugins from the attributes of an ONNX node or of a plan.
#include "plugin.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstring>
#include <limits>
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

// The names of all attributes: "none", "a", "a and b", "a, b and c".
std::array<char, 96> list_names(Operator const& op) {
    std::array<char, 96> text{"none"};
    for (int32_t i = 0, length = 0; i < op.attribute_count; ++i) {
        char const* const before = i == 0 ? "" : i + 1 < op.attribute_count ? ", " : " and ";
        length += std::snprintf(text.data() + length, text.size() - length, "%s%s", before,
                                op.attributes[i].name);
    }
    return text;
}

bool all_known(trt::PluginFieldCollection const& fields, Operator const& op, Label const& label) {
    for (int32_t i = 0; i < fields.nbFields; ++i) {
        trt::PluginField const& field = fields.fields[i];
        if (std::none_of(op.attributes.begin(), op.attributes.end(),
                         [&](Attribute const& known) { return is_called(field, known.name); })) {
            report(label, "got an attribute %s; wanted %s",
                   field.name != nullptr ? field.name : "without a name", list_names(op).data());
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
        std::array<char, 32> wanted{"a positive number"};
        if (attribute.highest != std::numeric_limits<int32_t>::max()) {
            std::snprintf(wanted.data(), wanted.size(), "%d to %d", attribute.lowest,
                          attribute.highest);
        } else if (attribute.lowest == 0) {
            std::snprintf(wanted.data(), wanted.size(), "0 or more");
        }
        report(label, "attribute %s is %d; wanted %s", name, value, wanted.data());
        return false;
    }
    return true;
}

} // namespace

Creator::Creator(Operator const& op) noexcept
    : operator_(op), names_(fields_of(op, nullptr)), collection_{op.attribute_count, names_.data()} {}

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
