// Runs the kernels of plugin/csrc/kernels.cuh on the CPU: a thread of a block is a thread here,
// blocks run one after the other. Shows on a machine without a GPU that lanes, shuffles and
// addresses are right; not how fast or how rounded the GPU is.
#include <cuda_runtime.h>

#include <algorithm>
#include <barrier>
#include <cmath>
#include <cstring>
#include <memory>
#include <thread>
#include <vector>

#undef __shared__
#define __shared__ static // one block at a time
#undef __launch_bounds__
#define __launch_bounds__(...)
#undef __global__
#define __global__

namespace {

thread_local uint3 threadIdx, blockIdx;
dim3 blockDim;

struct Warp {
    std::barrier<> arrived{32};
    uint32_t lanes[32];
};
std::unique_ptr<std::barrier<>> block;
std::vector<std::unique_ptr<Warp>> warps;

// What lane `source` passed.
template <typename T> T exchange(T value, unsigned source) {
    static_assert(sizeof(T) == sizeof(uint32_t));
    Warp& warp = *warps[threadIdx.x / 32];
    std::memcpy(&warp.lanes[threadIdx.x % 32], &value, sizeof(T));
    warp.arrived.arrive_and_wait();
    std::memcpy(&value, &warp.lanes[source], sizeof(T));
    warp.arrived.arrive_and_wait();
    return value;
}

template <typename T> T __shfl_sync(unsigned, T value, int source, int width) {
    unsigned const lane = threadIdx.x % 32;
    return exchange(value, lane / width * width + source % width);
}
template <typename T> T __shfl_xor_sync(unsigned, T value, int mask) {
    return exchange(value, (threadIdx.x % 32) ^ mask);
}
void __syncwarp() { warps[threadIdx.x / 32]->arrived.arrive_and_wait(); }
void __syncthreads() { block->arrive_and_wait(); }
template <typename T> T __ldg(T const* from) { return *from; }
template <typename T> T __ldcs(T const* from) { return *from; }
template <typename T> void __stcs(T* to, T value) { *to = value; }
// glibc has a function of this name.
#define __expf(x) std::exp(x)
float __saturatef(float x) { return std::fmin(std::fmax(x, 0.0F), 1.0F); } // NaN: 0
float __fdividef(float a, float b) { return a / b; }
uint32_t min(uint32_t a, uint32_t b) { return std::min(a, b); }

} // namespace

#include "kernels.cuh"

namespace {

template <typename Body> void run(dim3 grid, unsigned threads, Body kernel) {
    blockDim = dim3(threads);
    block = std::make_unique<std::barrier<>>(threads);
    warps.clear();
    for (unsigned i = 0; i < (threads + 31) / 32; ++i) {
        warps.push_back(std::make_unique<Warp>());
    }
    unsigned const blocks = grid.x * grid.y * grid.z;
    std::vector<std::jthread> workers;
    for (unsigned thread = 0; thread < threads; ++thread) {
        workers.emplace_back([=] {
            for (unsigned i = 0; i < blocks; ++i) {
                threadIdx = {thread, 0, 0};
                blockIdx = {i % grid.x, i / grid.x % grid.y, i / grid.x / grid.y};
                kernel();
                __syncthreads(); // the next block reuses shared memory
            }
        });
    }
}

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
