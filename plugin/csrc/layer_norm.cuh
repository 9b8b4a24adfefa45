// The kernel of layer normalisation; layouts are in layer_norm.h.
//
// Every row is read once, 16 bytes at a time, and stays in the registers of kLanes neighbouring lanes
// of a warp: statistics are sums over these lanes. Memory is meant to be the limit; that was not
// measured. A lane has kPieces vectors of 8 channels, kLanes vectors apart. Narrow rows have fewer
// lanes, so that each lane waits for three or four vectors at once and none has nothing to do: 192
// channels are 8 lanes of 3 vectors, and a warp takes four rows.
//
// A lane does one row and ends; what hides the time of its reads is that many warps fit into an SM.
// They read weights and biases again for every row, which are few and come from the L1 cache. Kept
// for several rows they would take 16 registers of each vector, twice what the row takes, and as many
// warps less would fit.
#pragma once

#include "layer_norm.h"
#include "vectors.cuh"

namespace codetr {

constexpr int kLayerNormThreads = 128; // of a block: few, so that 900 queries are 57 blocks
constexpr int kLayerNormVector = 8;    // channels of a read

template <int kLanes> constexpr int kLayerNormRows = kLayerNormThreads / kLanes; // of a block

// Over kLanes neighbouring lanes, for each of them.
template <int kLanes> __device__ inline float sum_of_neighbours(float value) {
#pragma unroll
    for (int distance = kLanes / 2; distance > 0; distance /= 2) {
        value += __shfl_xor_sync(0xFFFFFFFF, value, distance);
    }
    return value;
}

// Of values of a row: those of this lane, zeros where it has none.
template <int kPieces> using RowPart = float[kPieces][kLayerNormVector];

// Subtracts the mean of the row of `channels`; returns one by the standard deviation. The mean of
// equal values is exact: their sum fits into float32, and the division rounds right.
template <int kLanes, int kPieces>
__device__ inline float centre(RowPart<kPieces>& part, int pieces, float channels) {
    float sum = 0.0F;
#pragma unroll
    for (int i = 0; i < kPieces; ++i) {
#pragma unroll
        for (float const value : part[i]) {
            sum += value;
        }
    }
    float const mean = sum_of_neighbours<kLanes>(sum) / channels;
    float squares = 0.0F;
#pragma unroll
    for (int i = 0; i < kPieces; ++i) {
#pragma unroll
        for (float& value : part[i]) {
            value = i < pieces ? value - mean : 0.0F;
            squares = fmaf(value, value, squares);
        }
    }
    return 1.0F / sqrtf(sum_of_neighbours<kLanes>(squares) / channels + kLayerNormEpsilon);
}

// Where rows come from: each loads eight channels from `channel` on.
struct GivenRows {
    template <typename T>
    __device__ static void load(LayerNorm const& p, int64_t row, int32_t channel, float (&to)[8]) {
        load_8(static_cast<T const*>(p.x) + row * p.channels + channel, to);
    }
};
struct AddedRows {
    template <typename T>
    __device__ static void load(LayerNorm const& p, int64_t row, int32_t channel, float (&to)[8]) {
        float other[8];
        int64_t const place = row * p.channels + channel;
        load_8(static_cast<T const*>(p.x) + place, to);
        load_8(static_cast<T const*>(p.added) + place, other);
#pragma unroll
        for (int i = 0; i < 8; ++i) {
            to[i] += other[i];
        }
    }
};
struct MergedRows {
    // Two tokens that are neighbours in a row of the map lie side by side: half of a merged row.
    template <typename T>
    __device__ static void load(LayerNorm const& p, int64_t row, int32_t channel, float (&to)[8]) {
        auto const number = static_cast<int32_t>(row);
        int32_t const half = p.channels / 2;
        int32_t const lower = channel >= half; // of the two rows of the map
        int64_t const line = int64_t{number / p.merged_width} * 2 + lower;
        int64_t const pair = line * p.merged_width + number % p.merged_width;
        load_8(static_cast<T const*>(p.x) + pair * half + (channel - lower * half), to);
    }
};

// What rows are written as: one type, or float16 and float8.
template <typename T> struct As {
    using Type = T;
    static constexpr bool kAndFp8 = false;
};
struct AsHalfAndFp8 {
    using Type = __half;
    static constexpr bool kAndFp8 = true;
};

// Grid: runs of kLayerNormRows rows.
template <typename T, typename Output, typename Rows, int kLanes, int kPieces>
__global__ void __launch_bounds__(kLayerNormThreads) normalise_rows(LayerNorm problem) {
    int32_t const lane = threadIdx.x % kLanes;
    int32_t const vectors = problem.channels / kLayerNormVector;
    int const pieces = (vectors - lane + kLanes - 1) / kLanes; // of this lane; may be none
    int64_t const row = int64_t{blockIdx.x} * kLayerNormRows<kLanes> + threadIdx.x / kLanes;
    // Lanes past the end repeat the last row: shuffles need all of them.
    int64_t const there = row < problem.rows ? row : problem.rows - 1;
    constexpr int kStep = kLanes * kLayerNormVector;

    RowPart<kPieces> part = {};
#pragma unroll
    for (int i = 0; i < kPieces; ++i) {
        if (i < pieces) {
            Rows::template load<T>(problem, there, lane * kLayerNormVector + i * kStep, part[i]);
        }
    }
    float const scale = centre<kLanes, kPieces>(part, pieces, problem.channels);
    if (row >= problem.rows) {
        return;
    }
    float const* const weights = problem.weight + lane * kLayerNormVector;
    float const* const biases = problem.bias + lane * kLayerNormVector;
    int64_t const place = there * problem.channels + lane * kLayerNormVector;
    auto* const output = static_cast<typename Output::Type*>(problem.output) + place;
    float inverse_scale = 0.0F;
    if constexpr (Output::kAndFp8) {
        inverse_scale = *problem.inverse_scale;
    }
#pragma unroll
    for (int i = 0; i < kPieces; ++i) {
        if (i < pieces) {
            float weight[kLayerNormVector];
            float bias[kLayerNormVector];
            load_8(weights + i * kStep, weight);
            load_8(biases + i * kStep, bias);
#pragma unroll
            for (int channel = 0; channel < kLayerNormVector; ++channel) {
                float& value = part[i][channel];
                value = fmaf(value * scale, weight[channel], bias[channel]);
            }
            store_8(part[i], output + i * kStep);
            if constexpr (Output::kAndFp8) {
                for (float& value : part[i]) {
                    value *= inverse_scale;
                }
                store_8(part[i],
                        static_cast<__nv_fp8_e4m3*>(problem.quantised) + place + i * kStep);
            }
        }
    }
}

// One kernel and what it is for.
struct RowKernel {
    void (*run)(LayerNorm);
    int32_t rows;     // of a block
    int32_t channels; // at most
};

template <typename T, typename Output, typename Rows, int kLanes, int kPieces>
constexpr RowKernel row_kernel() {
    return {normalise_rows<T, Output, Rows, kLanes, kPieces>, kLayerNormRows<kLanes>,
            kLanes * kPieces * kLayerNormVector};
}

// The narrowest that is wide enough. Those of Swin's widths have no lane to spare.
template <typename T, typename Output, typename Rows> RowKernel row_kernel_of(int32_t channels) {
    RowKernel const kernels[] = {
        row_kernel<T, Output, Rows, 8, 3>(),   row_kernel<T, Output, Rows, 8, 4>(),
        row_kernel<T, Output, Rows, 16, 3>(),  row_kernel<T, Output, Rows, 16, 4>(),
        row_kernel<T, Output, Rows, 32, 3>(),  row_kernel<T, Output, Rows, 32, 4>(),
        row_kernel<T, Output, Rows, 32, 6>(),  row_kernel<T, Output, Rows, 32, 8>(),
        row_kernel<T, Output, Rows, 32, 12>(), row_kernel<T, Output, Rows, 32, 16>(),
    };
    RowKernel const* kernel = kernels;
    while (kernel->channels < channels) {
        ++kernel;
    }
    return *kernel;
}

} // namespace codetr
