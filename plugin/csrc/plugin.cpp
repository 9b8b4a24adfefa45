#include "plugin.h"

#include "tensors.h"

#include <algorithm>
#include <cstdio>
#include <new>
#include <numeric>

namespace codetr {

namespace trt = nvinfer1;

namespace {

constexpr int32_t kOk = 0;
constexpr int32_t kRefused = 1;

} // namespace

FieldArray fields_of(Operator const& op, Values const* values) noexcept {
    FieldArray fields;
    for (int i = 0; i < kMaxAttributes; ++i) {
        int32_t const* const value = values != nullptr ? &(*values)[i] : nullptr;
        fields[i] = {op.attributes[i].name, value, trt::PluginFieldType::kINT32, 1};
    }
    return fields;
}

Fields::Fields(Operator const& op, Values const& given) noexcept
    : values(given), fields_(fields_of(op, &values)),
      collection_{op.attribute_count, fields_.data()} {}

Plugin::Plugin(Operator const& op, Values const& values, char const* layer) noexcept
    : operator_(op), fields_(op, values) {
    std::snprintf(layer_.data(), layer_.size(), "%s", layer != nullptr ? layer : "");
    std::snprintf(timing_cache_id_.data(), timing_cache_id_.size(), "%d,%d,%d", values[0],
                  values[1], values[2]);
}

trt::IPluginCapability* Plugin::getCapabilityInterface(trt::PluginCapabilityType type) noexcept {
    switch (type) {
    case trt::PluginCapabilityType::kCORE: return static_cast<trt::IPluginV3OneCore*>(this);
    case trt::PluginCapabilityType::kBUILD: return static_cast<trt::IPluginV3OneBuild*>(this);
    case trt::PluginCapabilityType::kRUNTIME: return static_cast<trt::IPluginV3OneRuntime*>(this);
    }
    return nullptr;
}

trt::IPluginV3* Plugin::clone() noexcept {
    auto* const copy = new (std::nothrow) Plugin(operator_, fields_.values, layer_.data());
    if (copy != nullptr) {
        copy->tactic_ = tactic_;
    }
    return copy;
}

int32_t Plugin::configurePlugin(trt::DynamicPluginTensorDesc const* in, int32_t inputs,
                                trt::DynamicPluginTensorDesc const* out,
                                int32_t outputs) noexcept {
    if (!counts_fit(operator_, count(in, inputs), count(out, outputs), label())) {
        return kRefused;
    }
    Shapes shapes{};
    for (int32_t i = 0; i < inputs; ++i) {
        shapes[i] = in[i].desc.dims;
    }
    for (int32_t i = 0; i < outputs; ++i) {
        shapes[inputs + i] = out[i].desc.dims;
    }
    return shapes_fit(operator_, shapes, fields_.values, label()) ? kOk : kRefused;
}

int32_t Plugin::getOutputDataTypes(trt::DataType* output_types, int32_t outputs,
                                   trt::DataType const* input_types,
                                   int32_t inputs) const noexcept {
    if (!counts_fit(operator_, count(input_types, inputs), count(output_types, outputs), label())) {
        return kRefused;
    }
    // Wrong ones are only reported: TensorRT refuses them after supportsFormatCombination did, but
    // does not say which.
    report_types(operator_, input_types, label());
    for (int32_t i = 0; i < outputs; ++i) {
        output_types[i] = operator_.output_type(i, input_types[0]);
    }
    return kOk;
}

int32_t Plugin::getOutputShapes(trt::DimsExprs const* in, int32_t inputs, trt::DimsExprs const*,
                                int32_t, trt::DimsExprs* out, int32_t outputs,
                                trt::IExprBuilder& builder) noexcept {
    if (!counts_fit(operator_, count(in, inputs), count(out, outputs), label())) {
        return kRefused;
    }
    for (int32_t i = 0; i < inputs; ++i) {
        if (!rank_fits(operator_, i, in[i].nbDims, label())) {
            return kRefused;
        }
    }
    std::fill(out, out + outputs, operator_.output_shape(in, builder));
    return kOk;
}

bool Plugin::supportsFormatCombination(int32_t position, trt::DynamicPluginTensorDesc const* all,
                                       int32_t inputs, int32_t outputs) noexcept {
    return count(all, inputs) == operator_.inputs && outputs == operator_.outputs && position >= 0
           && position < inputs + outputs
           && all[position].desc.format == trt::TensorFormat::kLINEAR
           && operator_.type_fits(position, all[position].desc.type, all[0].desc.type);
}

size_t Plugin::getWorkspaceSize(trt::DynamicPluginTensorDesc const* in, int32_t inputs,
                                trt::DynamicPluginTensorDesc const* out,
                                int32_t outputs) const noexcept {
    if (!counts_fit(operator_, count(in, inputs), count(out, outputs), label())) {
        return 0;
    }
    Shapes largest{};
    for (int32_t i = 0; i < inputs; ++i) {
        largest[i] = in[i].desc.dims;
        if (!rank_fits(operator_, i, largest[i].nbDims, label())) {
            return 0;
        }
        // What is known is no bound, and taken as it is should the bounds say less.
        for (int32_t axis = 0; axis < largest[i].nbDims; ++axis) {
            largest[i].d[axis] = std::max(largest[i].d[axis], in[i].max.d[axis]);
        }
    }
    return operator_.workspace_size(largest, fields_.values);
}

int32_t Plugin::getValidTactics(int32_t* tactics, int32_t count) noexcept {
    bool const has_room = tactics != nullptr || count == 0; // TensorRT has no array for none
    if (!has_room || count != operator_.tactics()) {
        report(label(), "asked for %d tactics; there are %d", count, operator_.tactics());
        return kRefused;
    }
    std::iota(tactics, tactics + count, 1);
    return kOk;
}

int32_t Plugin::setTactic(int32_t tactic) noexcept {
    if (tactic < 0 || tactic > operator_.tactics()) {
        report(label(), "tactic is %d; wanted 0 to %d", tactic, operator_.tactics());
        return kRefused;
    }
    tactic_ = tactic;
    return kOk;
}

int32_t Plugin::onShapeChange(trt::PluginTensorDesc const* in, int32_t inputs,
                              trt::PluginTensorDesc const* out, int32_t outputs) noexcept {
    if (!counts_fit(operator_, count(in, inputs), count(out, outputs), label())) {
        return kRefused;
    }
    Shapes shapes{};
    for (int32_t i = 0; i < inputs; ++i) {
        shapes[i] = in[i].dims;
    }
    for (int32_t i = 0; i < outputs; ++i) {
        shapes[inputs + i] = out[i].dims;
    }
    if (!shapes_fit(operator_, shapes, fields_.values, label())) {
        return kRefused;
    }
    if (char const* const wrong = operator_.prepare(in, fields_.values)) {
        report(label(), "%s", wrong);
        return kRefused;
    }
    return kOk;
}

int32_t Plugin::enqueue(trt::PluginTensorDesc const* in, trt::PluginTensorDesc const*,
                        void const* const* inputs, void* const* outputs, void* workspace,
                        cudaStream_t stream) noexcept {
    int32_t const given = count(in, count(inputs, operator_.inputs));
    if (!counts_fit(operator_, given, count(outputs, operator_.outputs), label())) {
        return kRefused;
    }
    for (int32_t i = 0; i < given; ++i) {
        if (!rank_fits(operator_, i, in[i].dims.nbDims, label())) {
            return kRefused;
        }
    }
    cudaError_t const error =
        operator_.launch(in, inputs, outputs, workspace, fields_.values, tactic_, stream);
    if (error != cudaSuccess) {
        report(label(), "the kernel could not be launched: %s (%s)", cudaGetErrorString(error),
               cudaGetErrorName(error));
        return kRefused;
    }
    return kOk;
}

trt::IPluginV3* Plugin::attachToContext(trt::IPluginResourceContext*) noexcept { return clone(); }

trt::PluginFieldCollection const* Plugin::getFieldsToSerialize() noexcept {
    return fields_.collection();
}

} // namespace codetr
