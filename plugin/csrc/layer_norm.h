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

// All pointers are device memory, aligned to 16 bytes but for the scale, all tensors dense and
// row-major.
//
// Rows are those of x, or of the sum of two tensors, or those that merge neighbours: then x is a map
// of twice the height and width and a quarter of the channels, and a row is 2 x 2 tokens of it in
// the order (row, column, channel), as codetr.swin.PatchMerging has them.
struct LayerNorm {
    void const* x;              // (R, C)
    void const* added;          // (R, C), or null: nothing is added to x
    float const* weight;        // (C)
    float const* bias;          // (C)
    void* output;               // (R, C)
    void* quantised;            // (R, C) float8 of float16 rows as they are, by the scale; or null
    float const* inverse_scale; // (1): one by the scale of what is quantised; null where nothing is
    DataType type;              // of x: float16 or bfloat16
    DataType output_type;       // the same, or float8 where x is float16
    int32_t rows;               // R
    int32_t channels;           // C, a multiple of 8 and at most kMaxLayerNormChannels; of 32 if merged
    int32_t merged_width;       // width of the map of merged tokens; 0: nothing is merged
};

// Queues the work on the stream and returns; allocates nothing, so CUDA graphs capture it.
// Returns cudaErrorInvalidValue for what it has no kernel for.
cudaError_t layer_norm(LayerNorm const& problem, cudaStream_t stream) noexcept;

} // namespace codetr
