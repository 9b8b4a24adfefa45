// Group normalisation of a map whose channels come last on the GPU, free of TensorRT types.
//
// Computes what codetr/group_norm.py defines: statistics and parameters are float32, variances are of
// centred values. Sums are taken in one order whatever the GPU, so results are the same each time.
//
// Letters: B batch, H, W the map's height and width, C channels, G groups.
#pragma once

#include "data_type.h"

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

namespace codetr {

constexpr float kNormEpsilon = 1e-5F; // added to variances
constexpr int32_t kMaxNormChannels = 2048;
constexpr int32_t kMaxNormBatch = 65535; // CUDA's limit of a grid

// All pointers are device memory, aligned to 16 bytes, all tensors dense and row-major.
struct GroupNorm {
    void const* x;       // (B, H, W, C)
    float const* weight; // (C)
    float const* bias;   // (C)
    void* output;        // (B, H, W, C)
    void* workspace;     // group_norm_workspace() bytes of any content
    DataType type;       // of x and output: float16 or bfloat16
    int32_t batch;       // B, at most kMaxNormBatch
    int32_t height;      // H
    int32_t width;       // W
    int32_t channels;    // C, at most kMaxNormChannels
    int32_t groups;      // G, of 4 channels or of a multiple of 8
};

// Enough for maps of any size.
size_t group_norm_workspace(int32_t batch, int32_t groups) noexcept;

// Queues the work on the stream and returns; allocates nothing, so CUDA graphs capture it.
// Returns cudaErrorInvalidValue for what it has no kernel for.
cudaError_t group_norm(GroupNorm const& problem, cudaStream_t stream) noexcept;

} // namespace codetr
