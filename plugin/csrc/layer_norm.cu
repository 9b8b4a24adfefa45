// Layer normalisation: checks the dimensions and launches a kernel. layer_norm.cuh says what they do,
// layer_norm.h has the layouts.
#include "layer_norm.h"

#include "launch.cuh"
#include "layer_norm.cuh"

#include <cstdint>

namespace codetr {
namespace {

template <typename T, typename Output = T>
cudaError_t normalise(LayerNorm const& p, cudaStream_t stream) {
    RowKernel const kernel = row_kernel_of<T, Output>(p.channels);
    auto const blocks = static_cast<unsigned>((int64_t{p.rows} + kernel.rows - 1) / kernel.rows);
    return launch(kernel.run, {dim3(blocks), kLayerNormThreads, 0}, stream, p);
}

} // namespace

cudaError_t layer_norm(LayerNorm const& problem, cudaStream_t stream) noexcept {
    if (problem.rows < 0 || problem.channels <= 0 || problem.channels > kMaxLayerNormChannels
        || problem.channels % kLayerNormVector != 0) {
        return cudaErrorInvalidValue;
    }
    if (problem.rows == 0) {
        return cudaSuccess;
    }
    for (void const* pointer : {problem.x, static_cast<void const*>(problem.weight),
                                static_cast<void const*>(problem.bias),
                                static_cast<void const*>(problem.output)}) {
        if (pointer == nullptr || !aligned(pointer, 16)) {
            return cudaErrorInvalidValue;
        }
    }
    if (problem.type == DataType::kFloat16 && problem.output_type == DataType::kFloat8) {
        return normalise<__half, __nv_fp8_e4m3>(problem, stream);
    }
    if (problem.output_type != problem.type) {
        return cudaErrorInvalidValue;
    }
    switch (problem.type) {
    case DataType::kFloat16: return normalise<__half>(problem, stream);
    case DataType::kBfloat16: return normalise<__nv_bfloat16>(problem, stream);
    default: return cudaErrorInvalidValue;
    }
}

} // namespace codetr
