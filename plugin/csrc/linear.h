// Linear layers by cuBLASLt, free of TensorRT types: y = x W^T + b, with a residual added and an
// activation applied on request, in one kernel. Sums are float32; those of float8 as Hopper adds them
// up fastest, which is with fewer digits.
//
// cuBLASLt is loaded when the first product is prepared, so whoever uses none does not need it: the
// one that is loaded in the process already, else libcublasLt.so.13 or .12.
//
// Letters: R rows, K inputs, N outputs.
#pragma once

#include "data_type.h"

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

namespace codetr {

// What cuBLASLt may use for one product.
constexpr size_t kLinearWorkspace = size_t{32} << 20;

// So many of cuBLASLt's suggestions are kept of a product; it may have fewer.
constexpr int kLinearAlgorithms = 8;

enum class Activation : int32_t { kNone, kGelu, kRelu }; // GELU by tanh

// All pointers are device memory, aligned to 16 bytes but for scales, all tensors dense and
// row-major. Scales are (1) each: what values of float8 are multiplied by, and for the output one by
// it; null where nothing is float8.
struct Linear {
    void const* x;              // (R, K) of `factors`
    void const* weight;         // (N, K) of `factors`
    void const* bias;           // (N) of `type`
    void const* residual;       // (R, N) of `type`, or null
    float const* x_scale;       // of x
    float const* weight_scale;  // of weight
    float const* inverse_scale; // of the output
    void* output;               // (R, N) of `output_type`
    void* workspace;            // kLinearWorkspace bytes of any content, of this product alone
    DataType type;              // float16 or bfloat16
    DataType factors;           // the same, or float8 with float16
    DataType output_type;       // `type`, or float8 if the factors are and nothing is added
    int32_t rows;               // R
    int32_t inputs;             // K, a multiple of 8; of 16 for float8
    int32_t outputs;            // N, likewise
    Activation activation;      // of the sums
    int32_t algorithm;          // of cuBLASLt's suggestions, the best guess is 0
};

// Loads cuBLASLt and finds algorithms for products of this type and size on the current GPU;
// pointers and the algorithm are not looked at. Null if that is done, otherwise what is wrong. For any thread.
char const* prepare_linear(Linear const& problem) noexcept;

// Queues the product, prepared before, on the stream and returns; allocates nothing on the GPU, so
// CUDA graphs capture it. An algorithm gives the same sums each time: none is taken that splits K
// over blocks. Where there are fewer, the last one stands for the others.
cudaError_t linear(Linear const& problem, cudaStream_t stream) noexcept;

} // namespace codetr
