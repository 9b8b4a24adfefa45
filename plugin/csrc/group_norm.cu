// Group normalisation: checks the dimensions, shares out the work and launches the kernels.
// group_norm.cuh says what they do, group_norm.h has the layouts.
#include "group_norm.h"

#include "group_norm.cuh"
#include "launch.cuh"

#include <algorithm>
#include <cstdint>
#include <limits>

namespace codetr {
namespace {

// Of the second kernel. As many as are resident on a large GPU; each reads all statistics first.
constexpr int32_t kMaxBlocks = 512;

bool fits_together(GroupNorm const& p) {
    // Chunks are counted in int32, up to one after the last.
    constexpr int32_t kMax = std::numeric_limits<int32_t>::max() - (1 << 24);
    if (p.batch < 0 || p.batch > kMaxNormBatch || p.height <= 0 || p.width <= 0 || p.groups <= 0
        || p.channels <= 0 || p.channels > kMaxNormChannels || p.channels % kVector != 0
        || p.channels % p.groups != 0 || p.height > kMax / p.width) {
        return false;
    }
    int32_t const group_channels = p.channels / p.groups;
    return group_channels == 4 || group_channels % kVector == 0;
}

template <typename T, int kPart> cudaError_t normalise_all(GroupNorm const& p, cudaStream_t stream) {
    int32_t const tokens = p.height * p.width;
    int32_t const rows = kNormThreads * kVector / p.channels;
    int32_t const least = rows * kTile; // or a block has too little to do
    int32_t const chunk_tokens = std::max(least, (tokens + kMaxChunks - 1) / kMaxChunks);
    int32_t const chunks = (tokens + chunk_tokens - 1) / chunk_tokens;
    cudaError_t const error =
        launch(describe_chunks<T, kPart>, {dim3(chunks, p.batch), kNormThreads, 0}, stream, p,
               chunk_tokens);
    if (error != cudaSuccess) {
        return error;
    }
    int32_t const blocks = std::min((tokens + rows - 1) / rows, kMaxBlocks);
    return launch(normalise<T, kPart>, {dim3(blocks, p.batch), kNormThreads, 0}, stream, p,
                  chunk_tokens, chunks);
}

template <typename T> cudaError_t normalise_any(GroupNorm const& p, cudaStream_t stream) {
    return p.channels / p.groups == 4 ? normalise_all<T, 4>(p, stream)
                                      : normalise_all<T, kVector>(p, stream);
}

} // namespace

size_t group_norm_workspace(int32_t batch, int32_t groups) noexcept {
    return static_cast<size_t>(batch) * groups * kMaxChunks * sizeof(float2);
}

cudaError_t group_norm(GroupNorm const& problem, cudaStream_t stream) noexcept {
    if (!fits_together(problem)) {
        return cudaErrorInvalidValue;
    }
    if (problem.batch == 0) {
        return cudaSuccess;
    }
    for (void const* pointer : {problem.x, static_cast<void const*>(problem.weight),
                                static_cast<void const*>(problem.bias),
                                static_cast<void const*>(problem.output),
                                static_cast<void const*>(problem.workspace)}) {
        if (pointer == nullptr || !aligned(pointer, 16)) {
            return cudaErrorInvalidValue;
        }
    }
    switch (problem.type) {
    case DataType::kFloat16: return normalise_any<__half>(problem, stream);
    case DataType::kBfloat16: return normalise_any<__nv_bfloat16>(problem, stream);
    default: return cudaErrorInvalidValue;
    }
}

} // namespace codetr
