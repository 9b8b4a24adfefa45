// What the plugins have in common with TensorRT is in plugin.h; what sets them apart is here: one
// Operator each, in the files *_operator.cpp.
#pragma once

#include "data_type.h"

#include <NvInferRuntime.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <limits>
#include <numeric>

namespace codetr {

// An attribute of the ONNX node, always int32.
struct Attribute {
    char const* name;   // null after the operator's last one, if it has any
    int32_t lowest;     // value that it may have, 0 or 1
    int32_t highest = std::numeric_limits<int32_t>::max();
};

// A tensor as messages describe it.
struct Wanted {
    char const* name;
    int32_t rank;
    char const* shape;
    char const* type;
    int32_t other_rank = 0; // that it may have too; 0: none
};

constexpr int kMaxAttributes = 3;
constexpr int kMaxTensors = 7;

// In the order of the operator's attributes.
using Values = std::array<int32_t, kMaxAttributes>;
// Inputs, then the outputs; -1 is not known yet and may be any.
using Shapes = std::array<nvinfer1::Dims, kMaxTensors>;
using Letters = std::array<char, 192>;

// Nothing in its methods can throw.
class Operator {
  public:
    // Also the ONNX op type.
    char const* const name;
    std::array<Attribute, kMaxAttributes> const attributes;
    int32_t const attribute_count;
    // The outputs come after the inputs.
    std::array<Wanted, kMaxTensors> const tensors;
    int32_t const inputs;
    int32_t const outputs;

    // The first tensor whose shape does not fit the others, or their number if all do. Ranks fit.
    virtual int32_t find_wrong(Shapes const& shapes, Values const& values) const noexcept = 0;

    // What the letters of the wanted shapes stand for.
    virtual Letters letters(Shapes const& shapes, Values const& values) const noexcept = 0;

    // Whether `tensor` may be of this type where the first input is of type `first`.
    virtual bool type_fits(int32_t tensor, nvinfer1::DataType type,
                           nvinfer1::DataType first) const noexcept = 0;

    // Of the output of this number, where the first input is of type `first`.
    virtual nvinfer1::DataType output_type(int32_t, nvinfer1::DataType first) const noexcept {
        return first;
    }

    // Of every output. Ranks fit.
    virtual nvinfer1::DimsExprs output_shape(nvinfer1::DimsExprs const* in,
                                             nvinfer1::IExprBuilder& builder) const noexcept = 0;

    // Bytes that `launch` needs beside the tensors, for these shapes and all smaller ones. Ranks
    // fit; sizes may be any.
    virtual size_t workspace_size(Shapes const&, Values const&) const noexcept { return 0; }

    // What can be done before `launch` for these types and shapes; null, or what is wrong.
    virtual char const* prepare(nvinfer1::PluginTensorDesc const*, Values const&) const noexcept {
        return nullptr;
    }

    // How many kernels give the result, numbered from 1; TensorRT times them and takes the fastest.
    // 0: there is nothing to choose, and the number is 0.
    virtual int32_t tactics() const noexcept { return 0; }

    // Queues the kernel. Ranks fit. The workspace holds whatever was left there.
    virtual cudaError_t launch(nvinfer1::PluginTensorDesc const* in, void const* const* from,
                               void* const* to, void* workspace, Values const& values,
                               int32_t tactic, cudaStream_t stream) const noexcept = 0;

  protected:
    Operator(char const* op_type, std::array<Attribute, kMaxAttributes> const& given,
             std::array<Wanted, kMaxTensors> const& wanted, int32_t from,
             int32_t to = 1) noexcept
        : name(op_type), attributes(given), attribute_count(count_named(given)), tensors(wanted),
          inputs(from), outputs(to) {}
    ~Operator() = default; // all live as long as the library

  private:
    static int32_t count_named(std::array<Attribute, kMaxAttributes> const& given) noexcept {
        return static_cast<int32_t>(
            std::count_if(given.begin(), given.end(), [](auto const& a) { return a.name; }));
    }
};

Operator const& ms_deform_attn_operator() noexcept;
Operator const& window_attn_operator() noexcept;
Operator const& group_norm_operator() noexcept;
Operator const& layer_norm_operator() noexcept;
Operator const& linear_operator() noexcept;
Operator const& linear_add_operator() noexcept;
Operator const& add_layer_norm_operator() noexcept;   // of a sum
Operator const& merge_layer_norm_operator() noexcept; // of merged neighbours

// With fp8: "ToFp8" is of outputs, "Fp8" of what a linear layer multiplies.
Operator const& window_attn_to_fp8_operator() noexcept;
Operator const& layer_norm_to_fp8_operator() noexcept;
Operator const& layer_norm_and_fp8_operator() noexcept; // both outputs
Operator const& linear_fp8_operator() noexcept;
Operator const& linear_add_fp8_operator() noexcept;
Operator const& linear_fp8_to_fp8_operator() noexcept;

// For operators: -1 agrees with everything.
inline bool agree(int64_t a, int64_t b) { return a == b || a == -1 || b == -1; }

// The product of what is below 2^31, or 2^31 where it is more than any size.
inline int64_t times(int64_t a, int64_t b) { return std::min(a * b, int64_t{1} << 31); }

// The product of all sizes but the last, unknown ones as 1; 2^31 where it is more than any size.
inline int64_t rows_of(nvinfer1::Dims const& x) {
    return std::accumulate(x.d, x.d + x.nbDims - 1, int64_t{1}, [](int64_t rows, int64_t size) {
        return times(rows, size == -1 ? 1 : size);
    });
}

bool is_half(nvinfer1::DataType type) noexcept;

// For the kernels; float32 unless it is a half precision.
DataType type_of(nvinfer1::DataType type) noexcept;

} // namespace codetr
