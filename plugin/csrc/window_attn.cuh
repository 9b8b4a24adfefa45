// The kernel of window attention; layouts are in window_attn.h, fragments in ptx.cuh.
//
// A block stays with one head, whose bias it keeps in shared memory, and walks over the windows of
// all maps; while it works on one, the next one comes into shared memory. A warp has a tile of 16
// queries. Its logits against all keys are in registers as the tensor cores leave sums, and just so
// they take the weights as an operand of the second product.
#pragma once

#include "window_map.cuh"

namespace codetr {

constexpr int kChannelTiles = kHeadSize / 8;
constexpr float kApart = -100.0F; // the mask of a query and a key on different sides of a cut
constexpr float kLog2E = 1.4426950408889634F;
constexpr unsigned kAllLanes = 0xFFFFFFFF;

// Constants twice in a register. The scale is 32^-0.5, which rounds to 181 / 1024 in both types.
template <typename T> struct Pairs;
template <> struct Pairs<__half> {
    static constexpr uint32_t kOne = 0x3C003C00;
    static constexpr uint32_t kScale = 0x31A831A8;
};
template <> struct Pairs<__nv_bfloat16> {
    static constexpr uint32_t kOne = 0x3F803F80;
    static constexpr uint32_t kScale = 0x3E353E35;
};

// The first query of this warp's tile. A function for the reason that thread_index() is one.
__device__ inline uint32_t first_query() { return thread_index() / 32 * 16; }

// Two channels' bias of queries (`piece` 0 to 3) or values (4 to 7): those that fragments give this
// lane of eight channels.
template <typename P> __device__ inline uint32_t load_qkv_bias(char const* bias, int piece) {
    char const* const row = bias + piece * P::kBiasRow + P::kBiasEnd;
    return reinterpret_cast<uint32_t const*>(row)[thread_index() % 4];
}

// Adds their bias to the queries of a tile, rounded as by the product they come from.
template <typename P, typename T>
__device__ inline void add_query_bias(char const* bias, uint32_t (&queries)[2][4]) {
#pragma unroll
    for (int piece = 0; piece < kChannelTiles; ++piece) {
        auto const own = from_bits<T>(load_qkv_bias<P>(bias, piece));
        uint32_t* const pairs = queries[piece / 2] + piece % 2 * 2; // of two rows
        pairs[0] = to_bits(__hadd2(from_bits<T>(pairs[0]), own));
        pairs[1] = to_bits(__hadd2(from_bits<T>(pairs[1]), own));
    }
}

// The queries of a tile, scaled: the first and the last 16 channels. `parts` is the window in shared
// memory.
template <typename P, typename T, bool kAddBias>
__device__ inline void load_queries(char const* parts, char const* bias,
                                    uint32_t (&queries)[2][4]) {
    uint32_t const lane = thread_index() % 32;
    uint32_t const address = shared_address(parts) + first_query() * kRowBytes
                             + piece_offset(lane % 16, lane / 16);
    load_matrices(address, queries[0]);
    load_matrices(address ^ 32, queries[1]); // two pieces further
    if constexpr (kAddBias) {
        add_query_bias<P, T>(bias, queries);
    }
    for (auto& half : queries) {
        for (uint32_t& pair : half) {
            pair = to_bits(__hmul2(from_bits<T>(pair), from_bits<T>(Pairs<T>::kScale)));
        }
    }
}

// The bias of 16 queries and 16 keys, as two sums to which products will be added.
template <typename T>
__device__ inline void load_bias(uint32_t address, float (&left)[4], float (&right)[4]) {
    uint32_t pairs[4];
    load_matrices(address, pairs);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
        float2 const pair = widen_bits<T>(pairs[i]);
        float(&sum)[4] = i < 2 ? left : right;
        sum[i % 2 * 2] = pair.x;
        sum[i % 2 * 2 + 1] = pair.y;
    }
}

// The logits of a tile against all keys.
template <typename P, typename T, bool kAddBias>
__device__ inline void multiply_keys(char const* parts, char const* bias,
                                     float (&logits)[2 * P::kTiles][4]) {
    uint32_t queries[2][4];
    load_queries<P, T, kAddBias>(parts, bias, queries);
    uint32_t const lane = thread_index() % 32;
    uint32_t const biases = shared_address(bias) + (first_query() + lane % 16) * P::kBiasRow
                            + lane / 16 * 16;
    uint32_t const keys = shared_address(parts) + P::kPartBytes + piece_offset(lane % 8, lane / 8);
#pragma unroll
    for (int i = 0; i < P::kTiles; ++i) {
        if (i % 3 == 2) {
            __syncwarp(); // or the compiler reads all keys at once and runs out of registers
        }
        uint32_t left[4]; // eight keys, all channels
        uint32_t right[4];
        load_matrices(keys + 16 * i * kRowBytes, left);
        load_matrices(keys + (16 * i + 8) * kRowBytes, right);
        float(&left_sum)[4] = logits[2 * i];
        float(&right_sum)[4] = logits[2 * i + 1];
        load_bias<T>(biases + 2 * 16 * i, left_sum, right_sum);
        multiply_add<T>(left_sum, queries[0], left[0], left[1]);
        multiply_add<T>(right_sum, queries[0], right[0], right[1]);
        multiply_add<T>(left_sum, queries[1], left[2], left[3]);
        multiply_add<T>(right_sum, queries[1], right[2], right[3]);
    }
}

// Adds the mask to the logits of a tile.
template <int kCount>
__device__ inline void mask_cuts(float (&logits)[kCount][4], uint8_t const* sides, uint32_t cuts) {
    uint32_t const lane = thread_index() % 32;
    uint8_t const* const rows = sides + first_query() + lane / 4;
    uint32_t const row_sides[2] = {rows[0] * 0x0101U, rows[8] * 0x0101U};
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
        uint8_t const* const keys = sides + 8 * i + lane % 4 * 2;
        uint32_t const key_sides = *reinterpret_cast<uint16_t const*>(keys);
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            uint32_t const apart = (key_sides ^ row_sides[half]) & cuts;
            logits[i][2 * half] += (apart & 0x00FF) != 0 ? kApart : 0.0F;
            logits[i][2 * half + 1] += (apart & 0xFF00) != 0 ? kApart : 0.0F;
        }
    }
}

__device__ inline float highest_of_four_lanes(float value) {
    value = fmaxf(value, __shfl_xor_sync(kAllLanes, value, 1));
    return fmaxf(value, __shfl_xor_sync(kAllLanes, value, 2));
}

// Weights from logits, at most 1; their sum is not known yet.
template <typename T, int kTiles>
__device__ inline void weigh(float const (&logits)[2 * kTiles][4], uint32_t (&weights)[kTiles][4]) {
    float highest[2] = {logits[0][0], logits[0][2]}; // of the lane's two rows
#pragma unroll
    for (auto const& pairs : logits) {
        highest[0] = fmaxf(highest[0], fmaxf(pairs[0], pairs[1]));
        highest[1] = fmaxf(highest[1], fmaxf(pairs[2], pairs[3]));
    }
#pragma unroll
    for (float& each : highest) {
        each = highest_of_four_lanes(each);
    }
#pragma unroll
    for (int i = 0; i < 2 * kTiles; ++i) {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            float const zero = -highest[half] * kLog2E;
            float const x = power_of_2(fmaf(logits[i][2 * half], kLog2E, zero));
            float const y = power_of_2(fmaf(logits[i][2 * half + 1], kLog2E, zero));
            weights[i / 2][i % 2 * 2 + half] = narrow_to_bits<T>(x, y);
        }
    }
}

// Sums of weighted values, and of the weights.
template <typename P, typename T>
__device__ inline void multiply_values(uint32_t const (&weights)[P::kTiles][4], char const* parts,
                                       float (&sums)[kChannelTiles + 1][4]) {
    uint32_t const lane = thread_index() % 32;
    uint32_t const values = shared_address(parts) + 2 * P::kPartBytes
                            + piece_offset(lane % 16, lane / 16);
#pragma unroll
    for (int i = 0; i < P::kTiles; ++i) {
        uint32_t left[4]; // pieces 0 and 1 of 16 tokens
        uint32_t right[4];
        load_transposed(values + 16 * i * kRowBytes, left);
        load_transposed((values ^ 32) + 16 * i * kRowBytes, right);
        multiply_add<T>(sums[0], weights[i], left[0], left[1]);
        multiply_add<T>(sums[1], weights[i], left[2], left[3]);
        multiply_add<T>(sums[2], weights[i], right[0], right[1]);
        multiply_add<T>(sums[3], weights[i], right[2], right[3]);
        // The weights' own sum, as of values that are all ones.
        multiply_add<T>(sums[kChannelTiles], weights[i], Pairs<T>::kOne, Pairs<T>::kOne);
    }
}

// The mean of two channels' values, plus their bias if it is to be added: the weights sum to 1.
template <typename P, typename T, bool kAddBias>
__device__ inline float2 mean_of_values(float const* sum, float scale, char const* bias,
                                        int piece) {
    if constexpr (kAddBias) {
        float2 const pair = widen_bits<T>(load_qkv_bias<P>(bias, kChannelTiles + piece));
        return make_float2(fmaf(sum[0], scale, pair.x), fmaf(sum[1], scale, pair.y));
    } else {
        return make_float2(sum[0] * scale, sum[1] * scale);
    }
}

// How outputs lie in shared memory: eight channels of a token, which is `piece` of four, are
// neighbours, and a lane has two of them.
template <typename Output> struct Outputs {
    using Eight = uint4;
    __device__ static uint32_t offset(uint32_t row, uint32_t piece) {
        return piece_offset(row, piece);
    }
    __device__ static void put(float2 mean, WindowAttn const&, char* eight, uint32_t pair) {
        reinterpret_cast<uint32_t*>(eight)[pair] = narrow_to_bits<Output>(mean.x, mean.y);
    }
};
template <> struct Outputs<__nv_fp8_e4m3> {
    using Eight = uint2;
    __device__ static uint32_t offset(uint32_t row, uint32_t piece) {
        return piece_offset(row, piece / 2) + piece % 2 * sizeof(Eight);
    }
    __device__ static void put(float2 mean, WindowAttn const& problem, char* eight, uint32_t pair) {
        float const scale = __ldg(problem.inverse_scale);
        reinterpret_cast<uint16_t*>(eight)[pair] = narrow_to_fp8(mean.x * scale, mean.y * scale);
    }
};

// Outputs go through the shared memory that these queries were in, so that a lane stores eight
// channels at once.
template <typename P, typename T, typename Output, bool kAddBias>
__device__ inline void store_tile(WindowAttn const& problem,
                                  float const (&sums)[kChannelTiles + 1][4], char* parts,
                                  char const* bias) {
    uint32_t const lane = thread_index() % 32;
    uint32_t const first = first_query();
    char* const queries = parts + first * kRowBytes;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
        float const scale = reciprocal(sums[kChannelTiles][2 * half]);
#pragma unroll
        for (int i = 0; i < kChannelTiles; ++i) {
            float2 const mean =
                mean_of_values<P, T, kAddBias>(sums[i] + 2 * half, scale, bias, i);
            char* const eight =
                queries + 8 * half * kRowBytes + Outputs<Output>::offset(lane / 4, i);
            Outputs<Output>::put(mean, problem, eight, lane % 4);
        }
    }
    __syncwarp();
    auto* const output =
        static_cast<Output*>(problem.output) + blockIdx.x * kHeadSize + lane % 4 * 8;
    auto const* const places = reinterpret_cast<int const*>(parts + 3 * P::kPartBytes);
#pragma unroll
    for (int half = 0; half < 2; ++half) {
        int const token = first + 8 * half + lane / 4;
        int const place = places[token];
        if (token < P::kTokens && place >= 0) {
            using Eight = typename Outputs<Output>::Eight;
            auto const* const from = reinterpret_cast<Eight const*>(
                queries + 8 * half * kRowBytes + Outputs<Output>::offset(lane / 4, lane % 4));
            int64_t const offset = static_cast<int64_t>(place) * (problem.heads * kHeadSize);
            *reinterpret_cast<Eight*>(output + offset) = *from;
        }
    }
}

// A warp's tile of the window in `parts`.
template <typename P, typename T, typename Output, bool kAddBias>
__device__ inline void attend(WindowAttn const& problem, char* parts, char const* bias,
                              uint8_t const* sides, uint32_t cuts) {
    float logits[2 * P::kTiles][4];
    multiply_keys<P, T, kAddBias>(parts, bias, logits);
    if (cuts != 0) {
        mask_cuts(logits, sides, cuts);
    }
    uint32_t weights[P::kTiles][4];
    weigh<T>(logits, weights);
    float sums[kChannelTiles + 1][4] = {};
    multiply_values<P, T>(weights, parts, sums);
    store_tile<P, T, Output, kAddBias>(problem, sums, parts, bias);
}

// Grid: heads, then blocks that share out a head's windows, at least one for each.
template <typename P, typename T, typename Output, bool kAddBias>
__global__ void __launch_bounds__(P::kThreads, P::kResidentBlocks)
    attend_windows(WindowAttn problem) {
    extern __shared__ __align__(128) char shared_memory[];
    char* const bias = shared_memory;
    auto* const sides = reinterpret_cast<uint8_t*>(bias + P::kBiasBytes);
    char* const windows = bias + P::kBiasBytes + P::kSideBytes;

    Windows const all = {(problem.height + P::kWindow - 1) / P::kWindow,
                         (problem.width + P::kWindow - 1) / P::kWindow};
    Window const step = window_number(all, gridDim.y);
    Window window = window_number(all, blockIdx.y);
    int64_t const bias_size = int64_t{P::kTokens} * P::kTokens;
    copy_bias<P>(static_cast<T const*>(problem.bias) + blockIdx.x * bias_size, bias);
    if constexpr (kAddBias) {
        copy_qkv_bias<P, T>(problem, bias);
    }
    copy_window<P, T, kAddBias>(problem, all, window, windows);
    for (int token = threadIdx.x; token < 16 * P::kTiles; token += P::kThreads) {
        sides[token] = side_of_cuts<P>(token);
    }
    if constexpr (P::kTokens < 16 * P::kTiles) {
        zero_past_end<P>(windows);
        zero_past_end<P>(windows + P::kWindowBytes);
    }

    for (int offset = 0; window.batch < problem.batch; offset ^= P::kWindowBytes) {
        wait_for_copies();
        // All threads' copies of this window are there, and no one reads the one before any more.
        __syncthreads();
        uint32_t const cuts = cuts_through(problem, all, window);
        window = advance(all, window, step);
        if (window.batch < problem.batch) {
            copy_window<P, T, kAddBias>(problem, all, window,
                                        windows + (offset ^ P::kWindowBytes));
        }
        attend<P, T, Output, kAddBias>(problem, windows + offset, bias, sides, cuts);
    }
}

} // namespace codetr
