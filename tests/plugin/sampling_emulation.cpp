// The kernels of plugin/csrc/kernels.cuh on the CPU.
#include "cuda_on_cpu.h"

#define __shared__ static // one block at a time

namespace {

template <typename T> T __shfl_sync(unsigned, T value, int source, int width) {
    unsigned const lane = threadIdx.x % 32;
    return exchange(value, lane / width * width + source % width);
}
template <typename T> T __ldcs(T const* from) { return *from; }
// glibc has a function of this name.
#define __expf(x) std::exp(x)
float __saturatef(float x) { return std::fmin(std::fmax(x, 0.0F), 1.0F); } // NaN: 0
float __fdividef(float a, float b) { return a / b; }
uint32_t min(uint32_t a, uint32_t b) { return std::min(a, b); }

} // namespace

#include "kernels.cuh"

namespace {

template <typename T> void emulate(codetr::MsDeformAttn const& p, bool vectorised) {
    if (vectorised) {
        constexpr unsigned kThreads = 64;
        constexpr unsigned kBlockQueries = 16; // two steps
        dim3 const grid((p.queries + kBlockQueries - 1) / kBlockQueries, p.heads / 2, p.batch);
        run(grid, kThreads, [&p] { codetr::sample_vectorised<T, 5, kThreads, kBlockQueries>(p); });
    } else {
        constexpr unsigned kThreads = 8;
        unsigned const outputs = p.batch * p.queries * p.channels;
        run(dim3((outputs + kThreads - 1) / kThreads), kThreads,
            [&p] { codetr::sample_any<T>(p); });
    }
}

} // namespace

extern "C" void emulate(codetr::MsDeformAttn const* problem, bool vectorised) {
    switch (problem->type) {
    case codetr::DataType::kFloat32: return emulate<float>(*problem, vectorised);
    case codetr::DataType::kFloat16: return emulate<__half>(*problem, vectorised);
    case codetr::DataType::kBfloat16: return emulate<__nv_bfloat16>(*problem, vectorised);
    }
}
