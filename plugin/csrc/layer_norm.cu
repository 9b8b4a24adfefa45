// Layer normalisation: checks the dimensions and launches a kernel. layer_norm.cuh says what they do,
// layer_norm.h has the layouts.
#include "layer_norm.h"

#include "launch.cuh"
#include "layer_norm.cuh"

#include <cstdint>

namespace codetr {
namespace {

template <typename T, typename Output, typename Rows>
cudaError_t normalise(LayerNorm const& p, cudaStream_t stream) {
    RowKernel const kernel = row_kernel_of<T, Output, Rows>(p.channels);
    auto const blocks = static_cast<unsigned>((int64_t{p.rows} + kernel.rows - 1) / kernel.rows);
    return launch(kernel.run, {dim3(blocks), kLayerNormThreads, 0}, stream, p);
}

template <typename T> cudaError_t normalise_any(LayerNorm const& p, cudaStream_t stream) {
    if (p.merged_width != 0) {
        return normalise<T, As<T>, MergedRows>(p, stream);
    }
    return p.added != nullptr ? normalise<T, As<T>, AddedRows>(p, stream)
                              : normalise<T, As<T>, GivenRows>(p, stream);
}

bool fits_together(LayerNorm const& p) {
    bool const sizes_fit = p.rows >= 0 && p.channels > 0 && p.channels <= kMaxLayerNormChannels
                           && p.channels % kLayerNormVector == 0 && p.merged_width >= 0;
    bool const can_merge = p.merged_width == 0
                           || (p.channels % (4 * kLayerNormVector) == 0
                               && p.rows % p.merged_width == 0 && p.added == nullptr);
    return sizes_fit && can_merge;
}

bool all_aligned(LayerNorm const& p) {
    for (void const* pointer : {p.x, static_cast<void const*>(p.weight),
                                static_cast<void const*>(p.bias),
                                static_cast<void const*>(p.output)}) {
        if (pointer == nullptr || !aligned(pointer, 16)) {
            return false;
        }
    }
    return aligned(p.added, 16) && aligned(p.quantised, 16);
}

} // namespace

cudaError_t layer_norm(LayerNorm const& problem, cudaStream_t stream) noexcept {
    if (!fits_together(problem)) {
        return cudaErrorInvalidValue;
    }
    if (problem.rows == 0) {
        return cudaSuccess;
    }
    bool const is_given = problem.added == nullptr && problem.merged_width == 0;
    bool const can_be_fp8 = problem.type == DataType::kFloat16 && is_given;
    bool const to_fp8 = can_be_fp8 && problem.output_type == DataType::kFloat8;
    bool const and_fp8 = problem.quantised != nullptr;
    if (!all_aligned(problem) || (problem.output_type != problem.type && !to_fp8)
        || (and_fp8 && (!can_be_fp8 || to_fp8 || problem.inverse_scale == nullptr))) {
        return cudaErrorInvalidValue;
    }
    if (to_fp8) {
        return normalise<__half, As<__nv_fp8_e4m3>, GivenRows>(problem, stream);
    }
    if (and_fp8) {
        return normalise<__half, AsHalfAndFp8, GivenRows>(problem, stream);
    }
    switch (problem.type) {
    case DataType::kFloat16: return normalise_any<__half>(problem, stream);
    case DataType::kBfloat16: return normalise_any<__nv_bfloat16>(problem, stream);
    default: return cudaErrorInvalidValue;
    }
}

} // namespace codetr
