// Layer normalisation over the last axis on the GPU, free of TensorRT types.
//
// Computes what codetr.layers.LayerNorm computes: statistics and parameters are float32, variances
// are of centred values. Sums are taken in one order whatever the GPU, so results are the same each
// time.
//
// Letters: R rows, C channels.
#pragma once

#include "data_type.h"

#include <cuda_runtime_api.h>

#include <cstdint>

namespace codetr {

constexpr float kLayerNormEpsilon = 1e-5F; // added to variances
constexpr int32_t kMaxLayerNormChannels = 4096;

// All pointers are device memory, aligned to 16 bytes, all tensors dense and row-major.
struct LayerNorm {
    void const* x;        // (R, C)
    float const* weight;  // (C)
    float const* bias;    // (C)
    void* output;         // (R, C)
    DataType type;        // of x: float16 or bfloat16
    DataType output_type; // the same, or float8 where x is float16
    int32_t rows;         // R
    int32_t channels;     // C, a multiple of 8 and at most kMaxLayerNormChannels
};

// Queues the work on the stream and returns; allocates nothing, so CUDA graphs capture it.
// Returns cudaErrorInvalidValue for what it has no kernel for.
cudaError_t layer_norm(LayerNorm const& problem, cudaStream_t stream) noexcept;

} // namespace codetr
