// Attention inside the windows of a Swin block on the GPU, free of TensorRT types.
//
// Computes what codetr/window_attn.py defines, in one pass: padding, roll, partition,
// softmax(q k^T / sqrt(32) + bias + mask) v, merging, roll back and crop. The map stays as it is;
// nothing padded, rolled or cut into windows is ever in device memory. Sums and softmax are float32.
//
// Letters: B batch, H, W the map's height and width, M heads, N = window * window tokens.
#pragma once

#include "data_type.h"

#include <cuda_runtime_api.h>

#include <cstdint>

namespace codetr {

constexpr int32_t kHeadSize = 32; // channels of a head

// All pointers are device memory, aligned to 16 bytes but for the scale, all tensors dense, row-major
// and of `type` but for an output in float8.
struct WindowAttn {
    void const* qkv;            // (B, H, W, 3, M, 32): queries, keys, values
    void const* padding;        // (3, M, 32): the same of a padded token, which is the bias of `qkv`
    void const* bias;           // (M, N, N): what is added to the logits of each query and key
    float const* inverse_scale; // (1): what outputs in float8 are multiplied by; null: in `type`
    void* output;               // (B, H, W, M, 32)
    DataType type;              // float16 or bfloat16; float16 if the output is float8
    int32_t batch;              // B
    int32_t height;             // H
    int32_t width;              // W
    int32_t heads;              // M
    int32_t window;             // 7, 8 or 12
    int32_t shift;              // 0 or window / 2
    int32_t add_bias;           // 1: `qkv` is without its bias, which is added here; 0: with it
};

// Queues the work on the stream and returns; allocates nothing, so CUDA graphs capture it.
// Returns cudaErrorInvalidValue for what it has no kernel for.
cudaError_t window_attn(WindowAttn const& problem, cudaStream_t stream) noexcept;

} // namespace codetr
