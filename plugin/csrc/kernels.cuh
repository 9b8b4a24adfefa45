// The two kernels of multi-scale deformable attention; layouts are in ms_deform_attn.h.
//
// sample_vectorised: heads of 32 channels, 4 points. Four lanes of a warp serve one (query, head);
// lane i of them computes the weights and positions of point i of every level, then all four read
// the corners of every sample, 8 channels each (16 bytes of half precision):
//
//     lane    0 1 2 3     4 5 6 7     8 … 15      16 … 23     24 … 31
//     query   q           q           q + 1       q + 2       q + 3
//     head    2k          2k + 1      2k, 2k + 1  2k, 2k + 1  2k, 2k + 1
//
// Two neighbouring heads of a token fill one 128-byte line, so that eight lanes read from all banks
// of the L1 cache. A block stays with its two heads and moves over neighbouring queries, whose
// samples lie in the lines that it has just read. The L1 memory is the limit: its bandwidth, which
// values take four fifths of, and its size. So the lanes share the weights of one level at a time
// there, four in one read, and token numbers by shuffles.
//
// sample_any: any other numbers of heads, channels and points; a thread computes one channel of
// one query.
#pragma once

#include "sampling.cuh"
#include "vectors.cuh"

namespace codetr {

constexpr int kLanes = 4;        // lanes of one (query, head), and points of a level
constexpr int kLaneChannels = 8; // channels of a lane
constexpr int kHeadChannels = kLanes * kLaneChannels;
constexpr int kWarpHeads = 2;
constexpr int kWarpItems = 32 / kLanes; // (query, head) pairs of a warp
// Room for the weights of one point of all items. The two more spread the writes of eight lanes,
// two items of four points each, over all banks; reads, eight items of one point, are in a row.
constexpr int kPointRoom = kWarpItems + 2;
constexpr uint32_t kBandRows = 8;
constexpr unsigned kAllLanes = 0xFFFFFFFF;

// The order in which blocks take the queries of an encoder, which are the cells of all levels:
// within a level by bands of 8 rows and in a band column by column, so that any 64 neighbours in
// this order are about a square on the picture.
__device__ inline uint32_t query_in_bands(int32_t const* level_sizes, int levels, uint32_t index) {
    uint32_t start = 0;
    for (int level = 0; level < levels; ++level) {
        uint32_t const height = level_sizes[2 * level];
        uint32_t const width = level_sizes[2 * level + 1];
        uint32_t const cell = index - start;
        if (cell < height * width) {
            uint32_t const top = cell / (kBandRows * width) * kBandRows;
            uint32_t const rows = min(kBandRows, height - top);
            uint32_t const in_band = cell - top * width;
            return start + (top + in_band % rows) * width + in_band / rows;
        }
        start += height * width;
    }
    return index;
}

// Softmax over the kCount values of each of the kLanes neighbouring lanes.
template <int kCount> __device__ inline void softmax_across_lanes(float (&values)[kCount]) {
    float highest = values[0];
    for (float const value : values) {
        highest = fmaxf(highest, value);
    }
    for (int distance = 1; distance < kLanes; distance *= 2) {
        highest = fmaxf(highest, __shfl_xor_sync(kAllLanes, highest, distance));
    }
    float sum = 0.0F;
    for (float& value : values) {
        value = __expf(value - highest);
        sum += value;
    }
    for (int distance = 1; distance < kLanes; distance *= 2) {
        sum += __shfl_xor_sync(kAllLanes, sum, distance);
    }
    float const scale = __fdividef(1.0F, sum);
    for (float& value : values) {
        value *= scale;
    }
}

// Adds one sample to a lane's channels. `first` is its upper left corner, the steps count bytes.
template <typename T>
__device__ inline void add_sample(char const* first, uint64_t right, uint64_t below,
                                  float4 const& weights, float (&sum)[kLaneChannels]) {
    float corners[4][kLaneChannels];
    load_8(reinterpret_cast<T const*>(first), corners[0]);
    load_8(reinterpret_cast<T const*>(first + right), corners[1]);
    load_8(reinterpret_cast<T const*>(first + below), corners[2]);
    load_8(reinterpret_cast<T const*>(first + below + right), corners[3]);
    float const weight[4] = {weights.x, weights.y, weights.z, weights.w};
    for (int i = 0; i < 4; ++i) {
        for (int channel = 0; channel < kLaneChannels; ++channel) {
            sum[channel] = fmaf(weight[i], corners[i][channel], sum[channel]);
        }
    }
}

// One query and head; a lane gets its 8 channels in `sum`. `value` points to the lane's channels
// of token 0, `offsets` and `logits` to the lane's point of level 0, `shared` to room for a level's
// weights of all lanes of the warp.
template <typename T, int kLevels>
__device__ inline void sum_samples(T const* value, T const* offsets, T const* logits,
                                   Level const (&levels)[kLevels], Reference const& reference,
                                   uint32_t channels, float4* shared,
                                   float (&sum)[kLaneChannels]) {
    float weights[kLevels];
    using Move = typename Two<T>::Type;
    Move moves[kLevels];
#pragma unroll
    for (int level = 0; level < kLevels; ++level) {
        weights[level] = widen(__ldcs(logits + level * kLanes));
        moves[level] = __ldcs(reinterpret_cast<Move const*>(offsets + 2 * level * kLanes));
    }
    softmax_across_lanes(weights);
    uint32_t const lane = threadIdx.x % 32;
    uint32_t const item = lane / kLanes;
    // In bytes, so that an address is one multiplication of 32-bit numbers to a 64-bit sum.
    auto const* base = reinterpret_cast<char const*>(value);
    uint32_t const token_bytes = channels * sizeof(T);
#pragma unroll
    for (int i = 0; i < kLevels; ++i) {
        Level const level = levels[i];
        float2 const move = widen(moves[i]);
        uint64_t const right = uint64_t{right_step(level)} * token_bytes;
        uint64_t const below = uint64_t{below_step(level)} * token_bytes;
        Corners const own = sample_corners<sizeof(T) == sizeof(float)>(
            level, reference, move.x, move.y, weights[i]);
        __syncwarp(); // all have read the level before
        shared[lane % kLanes * kPointRoom + item] =
            make_float4(own.weight[0], own.weight[1], own.weight[2], own.weight[3]);
        __syncwarp();
#pragma unroll
        for (int point = 0; point < kLanes; ++point) {
            uint32_t const token = __shfl_sync(kAllLanes, own.first, point, kLanes);
            add_sample<T>(base + uint64_t{token} * token_bytes, right, below,
                          shared[point * kPointRoom + item], sum);
        }
    }
}

// Grid: runs of kRun queries, pairs of heads, batch.
template <typename T, int kLevels, int kThreads, int kRun>
__global__ void __launch_bounds__(kThreads, 1024 / kThreads)
    sample_vectorised(MsDeformAttn problem) {
    __shared__ Level levels[kLevels];
    __shared__ uint32_t order[kRun];
    constexpr int kWarpRoom = kLanes * kPointRoom;
    __shared__ float4 weights[kThreads / 32 * kWarpRoom];
    int const batch = blockIdx.z;
    uint32_t const queries = problem.queries;
    if (threadIdx.x < kLevels) {
        levels[threadIdx.x] = read_level(problem, batch, threadIdx.x);
    }
    for (uint32_t i = threadIdx.x; i < kRun; i += kThreads) {
        // Lanes past the end repeat the last query: shuffles need all of them.
        uint32_t const index = min(blockIdx.x * kRun + i, queries - 1);
        bool const all_cells = problem.queries == problem.tokens; // an encoder
        order[i] = all_cells ? query_in_bands(problem.level_sizes, kLevels, index) : index;
    }
    __syncthreads();

    uint32_t const lane = threadIdx.x % kLanes;
    uint32_t const head = blockIdx.y * kWarpHeads + threadIdx.x / kLanes % kWarpHeads;
    int const channel = head * kHeadChannels + lane * kLaneChannels;
    int const head_samples = kLevels * kLanes;
    int const samples = problem.heads * head_samples;
    T const* value = static_cast<T const*>(problem.value) + channel
                     + static_cast<size_t>(batch) * problem.tokens * problem.channels;

    constexpr uint32_t kStep = kThreads / (kLanes * kWarpHeads);
    static_assert(kRun % kStep == 0, "all lanes of a warp take part in its shuffles");
    for (uint32_t i = threadIdx.x / (kLanes * kWarpHeads); i < kRun; i += kStep) {
        uint32_t const query = min(order[i], queries - 1);
        size_t const row = static_cast<size_t>(batch) * queries + query;
        T const* sampling = static_cast<T const*>(problem.sampling) + row * samples * 3;
        T const* offsets = sampling + 2 * (head * head_samples + lane);
        T const* logits = sampling + 2 * samples + head * head_samples + lane;
        float sum[kLaneChannels] = {};
        sum_samples<T, kLevels>(value, offsets, logits, levels,
                                read_reference(problem, batch, query), problem.channels,
                                weights + threadIdx.x / 32 * kWarpRoom, sum);
        if (blockIdx.x * kRun + i < queries) {
            store_8(sum, static_cast<T*>(problem.output) + row * problem.channels + channel);
        }
    }
}

// Softmax of `count` logits needs the highest and the sum of what it leaves.
template <typename T>
__device__ inline float2 highest_and_sum(T const* logits, int count) {
    float highest = widen(logits[0]);
    for (int i = 1; i < count; ++i) {
        highest = fmaxf(highest, widen(logits[i]));
    }
    float sum = 0.0F;
    for (int i = 0; i < count; ++i) {
        sum += expf(widen(logits[i]) - highest);
    }
    return make_float2(highest, sum);
}

// Grid: B * Q * C threads, the channel running fastest.
template <typename T> __global__ void sample_any(MsDeformAttn problem) {
    size_t const channels = problem.channels;
    size_t const index = static_cast<size_t>(blockIdx.x) * blockDim.x + threadIdx.x;
    size_t const row = index / channels;
    if (row >= static_cast<size_t>(problem.batch) * problem.queries) {
        return;
    }
    size_t const channel = index % channels;
    int const batch = row / problem.queries;
    size_t const head = channel * problem.heads / channels;
    size_t const head_samples = static_cast<size_t>(problem.levels) * problem.points;
    size_t const samples = problem.heads * head_samples;
    T const* offsets = static_cast<T const*>(problem.sampling) + row * samples * 3
                       + 2 * head * head_samples;
    T const* logits = static_cast<T const*>(problem.sampling) + row * samples * 3 + 2 * samples
                      + head * head_samples;
    T const* value = static_cast<T const*>(problem.value) + channel
                     + static_cast<size_t>(batch) * problem.tokens * channels;
    Reference const reference = read_reference(problem, batch, row % problem.queries);
    float2 const softmax = highest_and_sum(logits, head_samples);

    float sum = 0.0F;
    for (int i = 0; i < problem.levels; ++i) {
        Level const level = read_level(problem, batch, i);
        for (int point = 0; point < problem.points; ++point, offsets += 2, ++logits) {
            float const weight = expf(widen(*logits) - softmax.x) / softmax.y;
            Corners const corners = sample_corners<true>(level, reference, widen(offsets[0]),
                                                   widen(offsets[1]), weight);
            for (int corner = 0; corner < 4; ++corner) {
                size_t const token = corners.first + corner % 2 * right_step(level)
                                     + corner / 2 * below_step(level);
                sum = fmaf(corners.weight[corner], widen(value[token * channels]), sum);
            }
        }
    }
    narrow(sum, static_cast<T*>(problem.output)[index]);
}

} // namespace codetr
