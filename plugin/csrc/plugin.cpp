#include "plugin.h"

#include "report.h"
#include "tensors.h"

#include <cstdio>
#include <new>

namespace codetr {

namespace trt = nvinfer1;

namespace {

constexpr int32_t kOk = 0;
constexpr int32_t kRefused = 1;

DataType type_of(trt::DataType type) {
    switch (type) {
    case trt::DataType::kHALF: return DataType::kFloat16;
    case trt::DataType::kBF16: return DataType::kBfloat16;
    default: return DataType::kFloat32;
    }
}

} // namespace

Attributes::Attributes(int32_t num_heads, int32_t num_points) noexcept
    : heads(num_heads), points(num_points),
      fields_{{{kNumHeads, &heads, trt::PluginFieldType::kINT32, 1},
               {kNumPoints, &points, trt::PluginFieldType::kINT32, 1}}},
      collection_{static_cast<int32_t>(fields_.size()), fields_.data()} {}

Plugin::Plugin(Attributes const& attributes, char const* layer) noexcept : attributes_(attributes) {
    std::snprintf(layer_.data(), layer_.size(), "%s", layer != nullptr ? layer : "");
    std::snprintf(timing_cache_id_.data(), timing_cache_id_.size(), "%d,%d", attributes_.heads,
                  attributes_.points);
}

trt::IPluginCapability* Plugin::getCapabilityInterface(trt::PluginCapabilityType type) noexcept {
    switch (type) {
    case trt::PluginCapabilityType::kCORE: return static_cast<trt::IPluginV3OneCore*>(this);
    case trt::PluginCapabilityType::kBUILD: return static_cast<trt::IPluginV3OneBuild*>(this);
    case trt::PluginCapabilityType::kRUNTIME: return static_cast<trt::IPluginV3OneRuntime*>(this);
    }
    return nullptr;
}

trt::IPluginV3* Plugin::clone() noexcept { return new (std::nothrow) Plugin(attributes_, layer()); }

int32_t Plugin::configurePlugin(trt::DynamicPluginTensorDesc const* in, int32_t inputs,
                                trt::DynamicPluginTensorDesc const* out,
                                int32_t outputs) noexcept {
    if (!counts_fit(inputs, outputs, layer())) {
        return kRefused;
    }
    Shapes shapes;
    for (int i = 0; i < kInputs; ++i) {
        shapes[i] = in[i].desc.dims;
    }
    shapes[kOutput] = out[0].desc.dims;
    return shapes_fit(shapes, attributes_, layer()) ? kOk : kRefused;
}

int32_t Plugin::getOutputDataTypes(trt::DataType* output_types, int32_t outputs,
                                   trt::DataType const* input_types,
                                   int32_t inputs) const noexcept {
    if (!counts_fit(inputs, outputs, layer())) {
        return kRefused;
    }
    // Wrong ones are only reported: TensorRT refuses them after supportsFormatCombination did, but
    // does not say which.
    report_types(input_types, layer());
    output_types[0] = input_types[kValue];
    return kOk;
}

int32_t Plugin::getOutputShapes(trt::DimsExprs const* in, int32_t inputs, trt::DimsExprs const*,
                                int32_t, trt::DimsExprs* out, int32_t outputs,
                                trt::IExprBuilder&) noexcept {
    if (!counts_fit(inputs, outputs, layer())) {
        return kRefused;
    }
    for (int i = 0; i < kInputs; ++i) {
        if (!rank_fits(static_cast<Tensor>(i), in[i].nbDims, layer())) {
            return kRefused;
        }
    }
    out[0].nbDims = 3;
    out[0].d[0] = in[kValue].d[0];
    out[0].d[1] = in[kSampling].d[1];
    out[0].d[2] = in[kValue].d[2];
    return kOk;
}

bool Plugin::supportsFormatCombination(int32_t position, trt::DynamicPluginTensorDesc const* all,
                                       int32_t inputs, int32_t outputs) noexcept {
    return inputs == kInputs && outputs == kOutputs && position >= 0 && position < kTensors
           && all[position].desc.format == trt::TensorFormat::kLINEAR
           && type_fits(static_cast<Tensor>(position), all[position].desc.type,
                        all[kValue].desc.type);
}

int32_t Plugin::onShapeChange(trt::PluginTensorDesc const* in, int32_t inputs,
                              trt::PluginTensorDesc const* out, int32_t outputs) noexcept {
    if (!counts_fit(inputs, outputs, layer())) {
        return kRefused;
    }
    Shapes shapes;
    for (int i = 0; i < kInputs; ++i) {
        shapes[i] = in[i].dims;
    }
    shapes[kOutput] = out[0].dims;
    return shapes_fit(shapes, attributes_, layer()) ? kOk : kRefused;
}

int32_t Plugin::enqueue(trt::PluginTensorDesc const* in, trt::PluginTensorDesc const*,
                        void const* const* inputs, void* const* outputs, void*,
                        cudaStream_t stream) noexcept {
    auto const size = [in](Tensor tensor, int dimension) {
        return static_cast<int32_t>(in[tensor].dims.d[dimension]);
    };
    MsDeformAttn problem{};
    problem.value = inputs[kValue];
    problem.sampling = inputs[kSampling];
    problem.reference = static_cast<float const*>(inputs[kReference]);
    problem.level_sizes = static_cast<int32_t const*>(inputs[kLevelSizes]);
    problem.valid_sizes = static_cast<int32_t const*>(inputs[kValidSizes]);
    problem.output = outputs[0];
    problem.type = type_of(in[kValue].type);
    problem.batch = size(kValue, 0);
    problem.tokens = size(kValue, 1);
    problem.queries = size(kSampling, 1);
    problem.channels = size(kValue, 2);
    problem.heads = attributes_.heads;
    problem.levels = size(kLevelSizes, 0);
    problem.points = attributes_.points;
    problem.reference_batch = size(kReference, 0);
    problem.reference_size = size(kReference, 2);
    problem.valid_batch = size(kValidSizes, 0);
    cudaError_t const error = ms_deform_attn(problem, stream);
    if (error != cudaSuccess) {
        report(layer(), "the kernel could not be launched: %s (%s)", cudaGetErrorString(error),
               cudaGetErrorName(error));
        return kRefused;
    }
    return kOk;
}

trt::IPluginV3* Plugin::attachToContext(trt::IPluginResourceContext*) noexcept { return clone(); }

trt::PluginFieldCollection const* Plugin::getFieldsToSerialize() noexcept {
    return attributes_.fields();
}

} // namespace codetr
