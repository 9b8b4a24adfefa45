// The two kernels of group normalisation; layouts are in group_norm.h.
//
// The first cuts a picture into chunks of neighbouring tokens, one for each block, and leaves the
// statistics of every group of every chunk in the workspace. The second joins them, once in each of
// its blocks, and normalises. No two blocks write to one place, so nothing depends on their order.
//
// A thread has 8 neighbouring channels of some tokens of its block: 16 bytes of each. They belong to
// one group, or to two of 4 channels: kPart channels are of one group for sure.
#pragma once

#include "group_norm.h"
#include "vectors.cuh"

namespace codetr {

constexpr int kVector = 8;        // channels of a thread
constexpr int kNormThreads = 512; // of a block, at most
constexpr int kTile = 8;          // tokens that a thread reads before it computes with the first
constexpr int kMaxChunks = 128;   // of a picture: few, as every block of the second kernel reads all
constexpr unsigned kWholeWarp = 0xFFFFFFFF;

// Of some values: how many, their mean, and the sum of squared distances from it.
struct Statistics {
    float count;
    float mean;
    float squares;
};

// How the threads of a block share out tokens. Those past `rows` have none.
struct Share {
    int32_t vectors; // of a token
    int32_t vector;  // of this thread
    int32_t row;     // its first token in the block
    int32_t rows;    // tokens that the block reads at once

    __device__ explicit Share(int32_t channels)
        : vectors(channels / kVector), vector(threadIdx.x % vectors), row(threadIdx.x / vectors),
          rows(blockDim.x / vectors) {}
    __device__ bool has_tokens() const { return row < rows; }
};

// Where the statistics of a group of a picture begin in the workspace: means and squares by chunk.
__device__ inline float2* chunk_statistics(GroupNorm const& problem, int32_t chunks, int32_t batch,
                                           int32_t group) {
    size_t const row = static_cast<size_t>(batch) * problem.groups + group;
    return static_cast<float2*>(problem.workspace) + row * chunks;
}

// Joins two sets (Chan, Golub, LeVeque 1979), the first of which may be empty.
__device__ inline void join(Statistics& to, Statistics const& other) {
    float const count = to.count + other.count;
    float const distance = other.mean - to.mean;
    float const share = other.count / count;
    to.mean = fmaf(distance, share, to.mean);
    to.squares += fmaf(distance * distance * to.count, share, other.squares);
    to.count = count;
}

__device__ inline float sum_of_lanes(float value) {
    for (int distance = 16; distance > 0; distance /= 2) {
        value += __shfl_xor_sync(kWholeWarp, value, distance);
    }
    return value;
}

// Joins `count` sets, `set(i)` each, by all lanes of a warp; not all are empty. The same as above for
// many: first the mean of all, then distances from it.
template <typename Set> __device__ inline Statistics join_all(int32_t count, Set const& set) {
    int32_t const lane = threadIdx.x % 32;
    Statistics all{};
    for (int32_t i = lane; i < count; i += 32) {
        Statistics const each = set(i);
        all.count += each.count;
        all.mean = fmaf(each.count, each.mean, all.mean);
    }
    all.count = sum_of_lanes(all.count);
    all.mean = sum_of_lanes(all.mean) / all.count;
    for (int32_t i = lane; i < count; i += 32) {
        Statistics const each = set(i);
        float const distance = each.mean - all.mean;
        all.squares += fmaf(distance * distance, each.count, each.squares);
    }
    all.squares = sum_of_lanes(all.squares);
    return all;
}

// Of `kPart` channels, the first of which is `first`, of the first `tokens` of a tile, at least one.
template <int kPart>
__device__ inline Statistics describe(float const (&tile)[kTile][kVector], int first, int tokens) {
    Statistics found{static_cast<float>(tokens * kPart), 0.0F, 0.0F};
#pragma unroll
    for (int i = 0; i < kTile; ++i) {
#pragma unroll
        for (int channel = first; channel < first + kPart; ++channel) {
            found.mean += i < tokens ? tile[i][channel] : 0.0F;
        }
    }
    found.mean /= found.count;
#pragma unroll
    for (int i = 0; i < kTile; ++i) {
#pragma unroll
        for (int channel = first; channel < first + kPart; ++channel) {
            float const distance = i < tokens ? tile[i][channel] - found.mean : 0.0F;
            found.squares = fmaf(distance, distance, found.squares);
        }
    }
    return found;
}

// Of a thread's tokens from `token` on, every `step`-th before `end`. `x` points to its channels of
// the picture's first token.
template <typename T, int kPart>
__device__ inline void describe_tokens(T const* x, int32_t channels, int32_t token, int32_t step,
                                       int32_t end, Statistics (&found)[kVector / kPart]) {
    while (token < end) {
        float tile[kTile][kVector] = {};
        int tokens = 0;
#pragma unroll
        for (int i = 0; i < kTile; ++i) {
            if (token < end) {
                load_8(x + static_cast<size_t>(token) * channels, tile[i]);
                token += step;
                ++tokens;
            }
        }
#pragma unroll
        for (int part = 0; part < kVector / kPart; ++part) {
            join(found[part], describe<kPart>(tile, part * kPart, tokens));
        }
    }
}

// Grid: chunks of a picture, batch.
template <typename T, int kPart>
__global__ void __launch_bounds__(kNormThreads)
    describe_chunks(GroupNorm problem, int32_t chunk_tokens) {
    constexpr int kParts = kVector / kPart;
    __shared__ Statistics shared[kNormThreads * kParts];
    Share const share(problem.channels);
    int32_t const tokens = problem.height * problem.width;
    int32_t const begin = blockIdx.x * chunk_tokens;
    int32_t const end = begin + min(chunk_tokens, tokens - begin);
    Statistics own[kParts] = {};
    if (share.has_tokens()) {
        T const* x = static_cast<T const*>(problem.x) + share.vector * kVector
                     + static_cast<size_t>(blockIdx.y) * tokens * problem.channels;
        describe_tokens<T, kPart>(x, problem.channels, begin + share.row, share.rows, end, own);
    }
    for (int part = 0; part < kParts; ++part) {
        shared[threadIdx.x * kParts + part] = own[part]; // row by row, parts in order
    }
    __syncthreads();

    int32_t const row_parts = share.vectors * kParts;
    int32_t const group_parts = row_parts / problem.groups;
    for (int32_t group = threadIdx.x / 32; group < problem.groups; group += blockDim.x / 32) {
        Statistics const all = join_all(share.rows * group_parts, [&](int32_t i) {
            return shared[i / group_parts * row_parts + group * group_parts + i % group_parts];
        });
        if (threadIdx.x % 32 == 0) {
            chunk_statistics(problem, gridDim.x, blockIdx.y, group)[blockIdx.x] =
                make_float2(all.mean, all.squares);
        }
    }
}

// Mean, and one by the standard deviation, of a group of a picture. By all lanes of a warp.
__device__ inline float2 join_chunks(GroupNorm const& problem, int32_t chunk_tokens,
                                     int32_t chunks, int32_t batch, int32_t group) {
    int32_t const tokens = problem.height * problem.width;
    float2 const* const stored = chunk_statistics(problem, chunks, batch, group);
    float const group_channels = problem.channels / problem.groups;
    Statistics const all = join_all(chunks, [&](int32_t i) {
        int32_t const there = min(chunk_tokens, tokens - i * chunk_tokens);
        return Statistics{there * group_channels, stored[i].x, stored[i].y};
    });
    return make_float2(all.mean, 1.0F / sqrtf(all.squares / all.count + kNormEpsilon));
}

// Grid: blocks that share out a picture's tokens, batch.
template <typename T, int kPart>
__global__ void __launch_bounds__(kNormThreads)
    normalise(GroupNorm problem, int32_t chunk_tokens, int32_t chunks) {
    __shared__ float2 shared[kMaxNormChannels / kPart];
    for (int32_t group = threadIdx.x / 32; group < problem.groups; group += blockDim.x / 32) {
        float2 const found = join_chunks(problem, chunk_tokens, chunks, blockIdx.y, group);
        if (threadIdx.x % 32 == 0) {
            shared[group] = found;
        }
    }
    __syncthreads();

    Share const share(problem.channels);
    if (!share.has_tokens()) {
        return;
    }
    int32_t const tokens = problem.height * problem.width;
    int32_t const channel = share.vector * kVector;
    int32_t const group_channels = problem.channels / problem.groups;
    float weight[kVector];
    float bias[kVector];
    load_8(problem.weight + channel, weight);
    load_8(problem.bias + channel, bias);
    float mean[kVector / kPart];
#pragma unroll
    for (int i = 0; i < kVector; ++i) {
        float2 const found = shared[(channel + i) / group_channels];
        mean[i / kPart] = found.x;
        weight[i] *= found.y;
    }
    size_t const picture = static_cast<size_t>(blockIdx.y) * tokens * problem.channels + channel;
    T const* const x = static_cast<T const*>(problem.x) + picture;
    T* const output = static_cast<T*>(problem.output) + picture;
    int64_t const step = static_cast<int64_t>(gridDim.x) * share.rows; // may pass 2^31 at the end
    for (int64_t token = blockIdx.x * share.rows + share.row; token < tokens; token += step) {
        float values[kVector];
        load_8(x + token * problem.channels, values);
#pragma unroll
        for (int i = 0; i < kVector; ++i) {
            // Centred first: a large mean must not drown what is left of the value.
            values[i] = fmaf(values[i] - mean[i / kPart], weight[i], bias[i]);
        }
        store_8(values, output + token * problem.channels);
    }
}

} // namespace codetr
