#include "plugin.h"

#include <cstdio>
#include <limits>
#include <new>

namespace codetr {

namespace trt = nvinfer1;

namespace {

// Tensors in the order of the ONNX node; TensorRT counts outputs after inputs.
enum Tensor { kValue, kSampling, kReference, kLevelSizes, kValidSizes, kOutput, kTensors };
constexpr int32_t kInputs = kOutput;
constexpr int32_t kOutputs = kTensors - kInputs;

constexpr int32_t kOk = 0;
constexpr int32_t kRefused = 1;

using Shapes = std::array<trt::Dims, kTensors>;

// A size of -1 is not known yet and may be any.
bool agree(int64_t a, int64_t b) { return a == b || a == -1 || b == -1; }

bool agree_or_one(int64_t a, int64_t b) { return a == 1 || agree(a, b); }

bool have_ranks(Shapes const& shapes) {
    constexpr int32_t kRanks[kTensors] = {3, 3, 3, 2, 3, 3};
    for (int tensor = 0; tensor < kTensors; ++tensor) {
        if (shapes[tensor].nbDims != kRanks[tensor]) {
            return false;
        }
        for (int i = 0; i < kRanks[tensor]; ++i) {
            if (shapes[tensor].d[i] > std::numeric_limits<int32_t>::max()) {
                return false;
            }
        }
    }
    return true;
}

// Whether the shapes are those that ms_deform_attn.h describes.
bool fit_together(Shapes const& shapes, Attributes const& attributes) {
    if (!have_ranks(shapes)) {
        return false;
    }
    auto const& value = shapes[kValue].d;
    auto const& sampling = shapes[kSampling].d;
    auto const& reference = shapes[kReference].d;
    auto const& level_sizes = shapes[kLevelSizes].d;
    auto const& valid_sizes = shapes[kValidSizes].d;
    auto const& output = shapes[kOutput].d;
    int64_t const level_values = int64_t{3} * attributes.heads * attributes.points;
    int64_t const levels = level_sizes[0];
    return agree(sampling[0], value[0]) && agree_or_one(reference[0], value[0])
           && agree_or_one(valid_sizes[0], value[0]) && agree(output[0], value[0])
           && agree(reference[1], sampling[1]) && agree(output[1], sampling[1])
           && (value[2] == -1 || value[2] % attributes.heads == 0) && agree(output[2], value[2])
           && (agree(reference[2], 2) || agree(reference[2], 4))
           && (levels == -1 || agree(sampling[2], levels * level_values))
           && agree(valid_sizes[1], levels) && agree(level_sizes[1], 2) && agree(valid_sizes[2], 2);
}

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

Plugin::Plugin(Attributes const& attributes) noexcept : attributes_(attributes) {
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

trt::IPluginV3* Plugin::clone() noexcept { return new (std::nothrow) Plugin(attributes_); }

int32_t Plugin::configurePlugin(trt::DynamicPluginTensorDesc const* in, int32_t inputs,
                                trt::DynamicPluginTensorDesc const* out,
                                int32_t outputs) noexcept {
    if (inputs != kInputs || outputs != kOutputs) {
        return kRefused;
    }
    Shapes shapes;
    for (int i = 0; i < kInputs; ++i) {
        shapes[i] = in[i].desc.dims;
    }
    shapes[kOutput] = out[0].desc.dims;
    return fit_together(shapes, attributes_) ? kOk : kRefused;
}

int32_t Plugin::getOutputDataTypes(trt::DataType* output_types, int32_t outputs,
                                   trt::DataType const* input_types,
                                   int32_t inputs) const noexcept {
    if (inputs != kInputs || outputs != kOutputs) {
        return kRefused;
    }
    output_types[0] = input_types[kValue];
    return kOk;
}

int32_t Plugin::getOutputShapes(trt::DimsExprs const* in, int32_t inputs, trt::DimsExprs const*,
                                int32_t, trt::DimsExprs* out, int32_t outputs,
                                trt::IExprBuilder&) noexcept {
    if (inputs != kInputs || outputs != kOutputs || in[kValue].nbDims != 3
        || in[kSampling].nbDims != 3) {
        return kRefused;
    }
    out[0].nbDims = 3;
    out[0].d[0] = in[kValue].d[0];
    out[0].d[1] = in[kSampling].d[1];
    out[0].d[2] = in[kValue].d[2];
    return kOk;
}

bool Plugin::supportsFormatCombination(int32_t position, trt::DynamicPluginTensorDesc const* all,
                                       int32_t inputs, int32_t outputs) noexcept {
    if (inputs != kInputs || outputs != kOutputs || position < 0 || position >= kTensors
        || all[position].desc.format != trt::TensorFormat::kLINEAR) {
        return false;
    }
    trt::DataType const type = all[position].desc.type;
    switch (position) {
    case kValue:
        return type == trt::DataType::kFLOAT || type == trt::DataType::kHALF
               || type == trt::DataType::kBF16;
    case kReference: return type == trt::DataType::kFLOAT;
    case kLevelSizes:
    case kValidSizes: return type == trt::DataType::kINT32;
    default: return type == all[kValue].desc.type; // sampling and output
    }
}

int32_t Plugin::onShapeChange(trt::PluginTensorDesc const* in, int32_t inputs,
                              trt::PluginTensorDesc const* out, int32_t outputs) noexcept {
    if (inputs != kInputs || outputs != kOutputs) {
        return kRefused;
    }
    Shapes shapes;
    for (int i = 0; i < kInputs; ++i) {
        shapes[i] = in[i].dims;
    }
    shapes[kOutput] = out[0].dims;
    return fit_together(shapes, attributes_) ? kOk : kRefused;
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
    return ms_deform_attn(problem, stream) == cudaSuccess ? kOk : kRefused;
}

trt::IPluginV3* Plugin::attachToContext(trt::IPluginResourceContext*) noexcept { return clone(); }

trt::PluginFieldCollection const* Plugin::getFieldsToSerialize() noexcept {
    return attributes_.fields();
}

} // namespace codetr
