// Window attention: checks the dimensions, chooses a kernel and launches it. window_attn.cuh says
// what the kernel does, window_attn.h has the layouts.
#include "window_attn.h"

#include "launch.cuh"
#include "window_attn.cuh"

#include <algorithm>
#include <cstdint>
#include <limits>

namespace codetr {
namespace {

bool fits_together(WindowAttn const& p) {
    constexpr int64_t kMax = std::numeric_limits<int32_t>::max();
    if (p.batch < 0 || p.height <= 0 || p.width <= 0 || p.heads <= 0 || p.window <= 0) {
        return false;
    }
    // Padded, so that the number of a place fits even there.
    int64_t const height = (int64_t{p.height} + p.window - 1) / p.window * p.window;
    int64_t const width = (int64_t{p.width} + p.window - 1) / p.window * p.window;
    return height <= kMax / width && height * width <= kMax / std::max(p.batch, 1)
           && p.heads <= kMax / (3 * kHeadSize) && (p.shift == 0 || p.shift == p.window / 2);
}

// How many blocks run at once, each with `shared_memory` bytes.
cudaError_t count_resident(void const* kernel, int threads, int shared_memory, int& blocks) {
    int device = 0;
    int multiprocessors = 0;
    int of_each = 0;
    cudaError_t error = cudaGetDevice(&device);
    if (error == cudaSuccess) {
        error = cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, device);
    }
    if (error == cudaSuccess) { // more than 48 KB has to be asked for
        error = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                     shared_memory);
    }
    if (error == cudaSuccess) {
        error = cudaOccupancyMaxActiveBlocksPerMultiprocessor(&of_each, kernel, threads,
                                                              shared_memory);
    }
    blocks = multiprocessors * of_each;
    return error;
}

// As many blocks as run at once; fewer if they take as many rounds.
template <typename P, typename T, typename Output>
cudaError_t attend_all(WindowAttn const& p, cudaStream_t stream) {
    auto* const kernel = p.add_bias != 0 ? attend_windows<P, T, Output, true>
                                         : attend_windows<P, T, Output, false>;
    int resident = 0;
    cudaError_t const error = count_resident(reinterpret_cast<void const*>(kernel), P::kThreads,
                                             P::kSharedBytes, resident);
    if (error != cudaSuccess) {
        return error;
    }
    int64_t const windows = int64_t{p.batch} * ((p.height + P::kWindow - 1) / P::kWindow)
                            * ((p.width + P::kWindow - 1) / P::kWindow);
    int64_t const most = std::max(resident / p.heads, 1); // of one head
    int64_t const rounds = (windows + most - 1) / most;
    int64_t const blocks = (windows + rounds - 1) / rounds;
    dim3 const grid(p.heads, static_cast<unsigned>(blocks));
    return launch(kernel, {grid, P::kThreads, P::kSharedBytes}, stream, p);
}

template <typename T, typename Output = T>
cudaError_t attend_any(WindowAttn const& p, cudaStream_t stream) {
    switch (p.window) {
    case 7: return attend_all<Plan<7, 5>, T, Output>(p, stream);
    case 8: return attend_all<Plan<8, 5>, T, Output>(p, stream);
    case 12: return attend_all<Plan<12, 2>, T, Output>(p, stream);
    default: return cudaErrorInvalidValue;
    }
}

} // namespace

cudaError_t window_attn(WindowAttn const& problem, cudaStream_t stream) noexcept {
    if (!fits_together(problem) || !aligned(problem.qkv, 16) || !aligned(problem.padding, 16)
        || !aligned(problem.bias, 16) || !aligned(problem.output, 16)) {
        return cudaErrorInvalidValue;
    }
    if (problem.batch == 0) {
        return cudaSuccess;
    }
    if (problem.inverse_scale != nullptr) {
        return problem.type == DataType::kFloat16 && aligned(problem.inverse_scale, sizeof(float))
                   ? attend_any<__half, __nv_fp8_e4m3>(problem, stream)
                   : cudaErrorInvalidValue;
    }
    switch (problem.type) {
    case DataType::kFloat16: return attend_any<__half>(problem, stream);
    case DataType::kBfloat16: return attend_any<__nv_bfloat16>(problem, stream);
    default: return cudaErrorInvalidValue;
    }
}

} // namespace codetr
