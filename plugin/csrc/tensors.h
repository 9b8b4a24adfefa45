// The tensors of the plugin: order, types and shapes, and how wrong ones are reported.
#pragma once

#include "plugin.h"

#include <array>

namespace codetr {

// In the order of the ONNX node; TensorRT counts outputs after inputs.
enum Tensor { kValue, kSampling, kReference, kLevelSizes, kValidSizes, kOutput, kTensors };
constexpr int32_t kInputs = kOutput;
constexpr int32_t kOutputs = kTensors - kInputs;

using Shapes = std::array<nvinfer1::Dims, kTensors>;

// These report what does not fit.

bool counts_fit(int32_t inputs, int32_t outputs, char const* layer) noexcept;

bool rank_fits(Tensor tensor, int32_t rank, char const* layer) noexcept;

// Whether the shapes are those that ms_deform_attn.h describes; -1 is not known yet and may be any.
bool shapes_fit(Shapes const& shapes, Attributes const& attributes, char const* layer) noexcept;

void report_types(nvinfer1::DataType const* inputs, char const* layer) noexcept;

// This one does not, since TensorRT asks it which types would fit.
bool type_fits(Tensor tensor, nvinfer1::DataType type, nvinfer1::DataType value_type) noexcept;

} // namespace codetr
