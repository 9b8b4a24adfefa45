// Runs CUDA kernels on the CPU: a fiber for each thread of a block, blocks one after the other.
// Fibers are switched in random order, so that a missing barrier shows. Shows on a machine without
// a GPU that lanes, shuffles and addresses are right; not how fast or how rounded the GPU is.
//
// Of one translation unit, which includes the kernels after it.
#pragma once

#include <cuda_runtime.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <random>
#include <vector>

#include <ucontext.h>

#undef __shared__
#undef __launch_bounds__
#define __launch_bounds__(...)
#undef __global__
#define __global__

namespace {

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

struct Fiber {
    ucontext_t context;
    std::vector<char> stack = std::vector<char>(1 << 16);
    bool done = false;
};

// Goes on once all of its fibers have come; the last one to come does `work`.
struct Meeting {
    int size;
    int here = 0;
    long generation = 0;
};

struct Warp {
    Meeting meeting{32};
    uint32_t lanes[32];
};

std::vector<std::unique_ptr<Fiber>> fibers; // of the block, by thread
std::vector<Warp> warps;
Meeting block;
ucontext_t scheduler;
std::function<void()> body;

Warp& warp() { return warps[threadIdx.x / 32]; }

template <typename Work> void meet(Meeting& meeting, Work work) {
    long const generation = meeting.generation;
    if (++meeting.here == meeting.size) {
        work();
        meeting.here = 0;
        ++meeting.generation;
    }
    while (meeting.generation == generation) {
        swapcontext(&fibers[threadIdx.x]->context, &scheduler);
    }
}
void meet(Meeting& meeting) {
    meet(meeting, [] {});
}

// What lane `source` passed.
template <typename T> T exchange(T value, unsigned source) {
    static_assert(sizeof(T) == sizeof(uint32_t));
    std::memcpy(&warp().lanes[threadIdx.x % 32], &value, sizeof(T));
    meet(warp().meeting);
    std::memcpy(&value, &warp().lanes[source], sizeof(T));
    meet(warp().meeting);
    return value;
}

template <typename T> T __shfl_xor_sync(unsigned, T value, int mask) {
    return exchange(value, (threadIdx.x % 32) ^ mask);
}
void __syncwarp() { meet(warp().meeting); }
void __syncthreads() { meet(block); }

template <typename T> T __ldg(T const* from) { return *from; }
template <typename T> void __stcs(T* to, T value) { *to = value; }
float __uint_as_float(uint32_t bits) {
    float value;
    std::memcpy(&value, &bits, sizeof(value));
    return value;
}

void start() {
    body();
    fibers[threadIdx.x]->done = true;
    swapcontext(&fibers[threadIdx.x]->context, &scheduler);
}

void start_fibers() {
    fibers.clear();
    for (unsigned thread = 0; thread < blockDim.x; ++thread) {
        fibers.push_back(std::make_unique<Fiber>());
        Fiber& fiber = *fibers.back();
        getcontext(&fiber.context);
        fiber.context.uc_stack.ss_sp = fiber.stack.data();
        fiber.context.uc_stack.ss_size = fiber.stack.size();
        makecontext(&fiber.context, start, 0);
    }
}

// Runs of neighbours, the first of a run at random: as unequal as warps are, and quick.
void run_fibers(std::mt19937& random) {
    for (unsigned left = blockDim.x; left > 0;) {
        unsigned const first = random() % blockDim.x;
        for (unsigned i = 0; i < std::min(32U, blockDim.x); ++i) {
            threadIdx = {(first + i) % blockDim.x, 0, 0};
            if (!fibers[threadIdx.x]->done) {
                swapcontext(&scheduler, &fibers[threadIdx.x]->context);
                left -= fibers[threadIdx.x]->done;
            }
        }
    }
}

void run(dim3 grid, unsigned threads, std::function<void()> kernel) {
    std::mt19937 random; // the same order each time
    gridDim = grid;
    blockDim = dim3(threads);
    body = std::move(kernel);
    for (unsigned i = 0; i < grid.x * grid.y * grid.z; ++i) {
        blockIdx = {i % grid.x, i / grid.x % grid.y, i / grid.x / grid.y};
        block = {static_cast<int>(threads)};
        warps.assign((threads + 31) / 32, Warp{});
        start_fibers();
        run_fibers(random);
    }
}

} // namespace
