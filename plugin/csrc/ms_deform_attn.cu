// Multi-scale deformable attention: checks the dimensions, chooses a kernel and launches it.
// kernels.cuh says what the kernels compute and what one thread does, ms_deform_attn.h has the
// layouts.
#include "ms_deform_attn.h"

#include "kernels.cuh"
#include "launch.cuh"

#include <cstdint>
#include <limits>

namespace codetr {
namespace {

constexpr int kLevels = 5;             // of the vectorised kernel
constexpr int32_t kMaxGridYZ = 65535; // CUDA's limit
constexpr int64_t kMax = std::numeric_limits<int32_t>::max();

bool fits_together(MsDeformAttn const& p) {
    bool const positive = p.batch >= 0 && p.queries >= 0 && p.tokens > 0 && p.channels > 0
                          && p.heads > 0 && p.levels > 0 && p.points > 0;
    return positive && p.channels % p.heads == 0
           && p.points <= kMax / 3 / p.heads / p.levels && p.tokens <= kMaxTokens
           && (p.reference_size == 2 || p.reference_size == 4)
           && (p.reference_batch == 1 || p.reference_batch == p.batch)
           && (p.valid_batch == 1 || p.valid_batch == p.batch);
}

bool has_vectorised(MsDeformAttn const& p, size_t element_size) {
    return p.levels == kLevels && p.points == kLanes && p.channels == p.heads * kHeadChannels
           && p.heads % kWarpHeads == 0 && p.heads / kWarpHeads <= kMaxGridYZ
           && p.batch <= kMaxGridYZ
           && aligned(p.value, 16) && aligned(p.output, 16)
           && aligned(p.sampling, 2 * element_size);
}

// Blocks of kThreads, each with kRun queries and a pair of heads.
template <typename T, int kThreads, int kRun>
cudaError_t sample_runs(MsDeformAttn const& p, cudaStream_t stream) {
    uint32_t const runs = (static_cast<uint32_t>(p.queries) + kRun - 1) / kRun;
    dim3 const grid(runs, p.heads / kWarpHeads, p.batch);
    return launch(sample_vectorised<T, kLevels, kThreads, kRun>, {grid, kThreads, 0}, stream, p);
}

template <typename T> cudaError_t sample(MsDeformAttn const& p, cudaStream_t stream) {
    if (has_vectorised(p, sizeof(T))) {
        // Many queries: a block of 16 warps walks over 256 neighbours. Few, as in a decoder: small
        // blocks spread them over the whole GPU.
        bool const many = int64_t{p.batch} * p.queries >= 16384;
        return many ? sample_runs<T, 512, 256>(p, stream) : sample_runs<T, 64, 8>(p, stream);
    }
    constexpr unsigned kThreads = 256;
    int64_t const rows = int64_t{p.batch} * p.queries;
    if (rows > kMax * kThreads / p.channels) {
        return cudaErrorInvalidValue; // more blocks than a grid has
    }
    int64_t const blocks = (rows * p.channels + kThreads - 1) / kThreads;
    dim3 const grid(static_cast<unsigned>(blocks));
    return launch(sample_any<T>, {grid, kThreads, 0}, stream, p);
}

} // namespace

cudaError_t ms_deform_attn(MsDeformAttn const& problem, cudaStream_t stream) noexcept {
    if (!fits_together(problem)) {
        return cudaErrorInvalidValue;
    }
    if (problem.batch == 0 || problem.queries == 0) {
        return cudaSuccess;
    }
    switch (problem.type) {
    case DataType::kFloat32: return sample<float>(problem, stream);
    case DataType::kFloat16: return sample<__half>(problem, stream);
    case DataType::kBfloat16: return sample<__nv_bfloat16>(problem, stream);
    default: return cudaErrorInvalidValue;
    }
}

} // namespace codetr
