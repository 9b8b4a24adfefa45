// Multi-scale deformable attention on the GPU, free of TensorRT types.
//
// Computes what codetr/deform_attn.py defines, in one pass: softmax of the logits, sampling
// positions, bilinear sampling and the weighted sum. Coordinates, softmax and sums are float32.
//
// Letters: B batch, S tokens of all levels, Q queries, C channels, M heads, L levels, P points.
#pragma once

#include "data_type.h"

#include <cuda_runtime_api.h>

#include <cstdint>

namespace codetr {

constexpr int32_t kMaxTokens = 1 << 24; // float32, which positions are, has all whole numbers to it

// All pointers are device memory, all tensors dense and row-major.
struct MsDeformAttn {
    void const* value;          // (B, S, C): levels one after the other, row-major
    void const* sampling;       // (B, Q, M*L*P*3): offsets x, y, then logits, both raw
    float const* reference;     // (reference_batch, Q, reference_size)
    int32_t const* level_sizes; // (L, 2): height, width
    int32_t const* valid_sizes; // (valid_batch, L, 2): height, width of the part that is picture
    void* output;               // (B, Q, C)
    DataType type;              // of value, sampling and output
    int32_t batch;              // B
    int32_t tokens;             // S, at most kMaxTokens
    int32_t queries;            // Q
    int32_t channels;           // C
    int32_t heads;              // M, divides C
    int32_t levels;             // L
    int32_t points;             // P
    int32_t reference_batch;    // B or 1
    int32_t reference_size;     // 2: point x, y; 4: box cx, cy, w, h
    int32_t valid_batch;        // B or 1
};

// Queues the work on the stream and returns; allocates nothing, so CUDA graphs capture it.
// Returns cudaErrorInvalidValue for dimensions that do not fit together. What level_sizes and
// valid_sizes hold is seen by the GPU only: a level outside the S tokens counts as zeros.
cudaError_t ms_deform_attn(MsDeformAttn const& problem, cudaStream_t stream) noexcept;

} // namespace codetr
