// Windows on a map, and how one comes into shared memory.
#pragma once

#include "ptx.cuh"
#include "vectors.cuh"
#include "window_attn.h"

#include <cmath>

namespace codetr {

constexpr int kRowBytes = 2 * kHeadSize; // of a token in shared memory

// How the work on windows of a size is shared out: a block takes one at a time, and a warp of it a
// tile, which is 16 queries.
template <int kSize, int kResident> struct Plan {
    static constexpr int kWindow = kSize;
    static constexpr int kTokens = kWindow * kWindow;
    static constexpr int kTiles = (kTokens + 15) / 16;
    static constexpr int kThreads = 32 * kTiles;
    static constexpr int kResidentBlocks = kResident; // wanted on a multiprocessor

    // Shared memory in bytes: bias, sides, then two windows, which are queries, keys, values and
    // places. Rows of the bias are an odd number of 16 bytes apart, so that eight of them lie in
    // different banks. What that leaves free in the first eight takes the bias of `qkv`, if it is to
    // be added.
    static constexpr int kBiasRow = 2 * (16 * kTiles + 8);
    static constexpr int kBiasEnd = 2 * 16 * kTiles; // of a row
    static constexpr int kBiasBytes = 16 * kTiles * kBiasRow;
    static constexpr int kSideBytes = (16 * kTiles + 127) / 128 * 128;
    static constexpr int kPartBytes = 16 * kTiles * kRowBytes;
    static constexpr int kWindowBytes = 3 * kPartBytes + 16 * kTiles * sizeof(int);
    static constexpr int kSharedBytes = kBiasBytes + kSideBytes + 2 * kWindowBytes;
    static_assert(kBiasBytes % 64 == 0 && kWindowBytes % 64 == 0, "piece_offset counts on it");
};

// Rows and columns of windows on a map.
struct Windows {
    int rows;
    int columns;
};

// One of the batch's windows, or a step from one to another.
struct Window {
    int batch;
    int row;
    int column;
};

__device__ inline Window window_number(Windows const& all, int index) {
    return {index / all.columns / all.rows, index / all.columns % all.rows, index % all.columns};
}

__device__ inline Window advance(Windows const& all, Window const& from, Window const& step) {
    Window to = {from.batch + step.batch, from.row + step.row, from.column + step.column};
    if (to.column >= all.columns) {
        to.column -= all.columns;
        ++to.row;
    }
    if (to.row >= all.rows) {
        to.row -= all.rows;
        ++to.batch;
    }
    return to;
}

// The place in the batch's maps of a window's token, or -1 if it is padding.
template <typename P>
__device__ inline int find_token(WindowAttn const& problem, Windows const& all,
                                 Window const& window, int row, int column) {
    int y = window.row * P::kWindow + row + problem.shift;
    int x = window.column * P::kWindow + column + problem.shift;
    y -= y >= all.rows * P::kWindow ? all.rows * P::kWindow : 0;
    x -= x >= all.columns * P::kWindow ? all.columns * P::kWindow : 0;
    bool const inside = y < problem.height && x < problem.width;
    return inside ? (window.batch * problem.height + y) * problem.width + x : -1;
}

// Shifted windows of the last row and column hold the map's end and start, between which there is
// a cut. Bit 1 is of the cut between rows and bit 0 of that between columns. Both bits are in both
// of two bytes, since a lane looks at two keys at a time.
__device__ inline uint32_t cuts_through(WindowAttn const& problem, Windows const& all,
                                        Window const& window) {
    return problem.shift == 0 ? 0
                              : (window.row == all.rows - 1 ? 0x0202 : 0)
                                    | (window.column == all.columns - 1 ? 0x0101 : 0);
}

// On which side of the two cuts a token is.
template <typename P> __device__ inline uint8_t side_of_cuts(int token) {
    constexpr int kCut = P::kWindow - P::kWindow / 2;
    return (token / P::kWindow >= kCut ? 2 : 0) | (token % P::kWindow >= kCut ? 1 : 0);
}

// The offset of a piece, 8 channels of a token. The tensor cores' operands are one piece of each of
// 8 tokens, which are 64 bytes apart: the order of the four pieces changes every two tokens, so
// that those 8 lie in different banks. In `piece` it is bits 4 and 5 of the offset that change.
__device__ inline uint32_t piece_offset(uint32_t token, uint32_t piece) {
    return token * kRowBytes + ((piece ^ (token >> 1 & 3)) << 4);
}

// Starts copying 16 bytes of a token. Without its bias, a padded token is zeros.
template <bool kAddBias>
__device__ inline void copy_piece(uint32_t to, void const* from, int place) {
    if constexpr (kAddBias) {
        copy_16_or_zeros(to, from, place < 0);
    } else {
        copy_16(to, from);
    }
}

// Starts copying a window. Four threads copy a token.
template <typename P, typename T, bool kAddBias>
__device__ inline void copy_window(WindowAttn const& problem, Windows const& all,
                                   Window const& window, char* to) {
    uint32_t const thread = thread_index();
    int const channels = problem.heads * kHeadSize;
    int const channel = blockIdx.x * kHeadSize + thread % 4 * 8;
    T const* const qkv = static_cast<T const*>(problem.qkv) + channel;
    T const* const padding = static_cast<T const*>(problem.padding) + channel;
    uint32_t const pieces = shared_address(to) + piece_offset(thread / 4, thread % 4);
    int* const places = reinterpret_cast<int*>(to + 3 * P::kPartBytes) + thread / 4;
    constexpr int kStep = P::kThreads / 4;
    static_assert(kStep % 8 == 0, "the order of pieces is the same in each step");
#pragma unroll
    for (int i = 0; i < P::kTokens; i += kStep) {
        // Token i + thread / 4; one division by the window does for all steps.
        int row = thread / 4 / P::kWindow + i / P::kWindow;
        int column = thread / 4 % P::kWindow + i % P::kWindow;
        if (i % P::kWindow != 0 && column >= P::kWindow) {
            column -= P::kWindow;
            ++row;
        }
        if (i + kStep <= P::kTokens || i + thread / 4 < P::kTokens) {
            int const place = find_token<P>(problem, all, window, row, column);
            T const* const from =
                place < 0 ? padding : qkv + static_cast<int64_t>(place) * (3 * channels);
            uint32_t const piece = pieces + i * kRowBytes;
            copy_piece<kAddBias>(piece, from, place);
            copy_piece<kAddBias>(piece + P::kPartBytes, from + channels, place);
            copy_piece<kAddBias>(piece + 2 * P::kPartBytes, from + 2 * channels, place);
            places[i] = place;
        }
    }
}

// Zeros the rows past a window's last token: their weights are 0, so they need only be finite.
template <typename P> __device__ inline void zero_past_end(char* parts) {
    constexpr int kPieces = (16 * P::kTiles - P::kTokens) * 4;
    for (int i = threadIdx.x; i < 3 * kPieces; i += P::kThreads) {
        char* const to = parts + i / kPieces * P::kPartBytes + P::kTokens * kRowBytes;
        reinterpret_cast<uint4*>(to)[i % kPieces] = make_uint4(0, 0, 0, 0);
    }
}

// Starts copying a head's bias. Keys past the end get -inf and so no weight, whatever the query;
// what queries past the end compute is not stored.
template <typename P, typename T> __device__ inline void copy_bias(T const* bias, char* to) {
    if constexpr (P::kTokens % 16 == 0) {
        constexpr int kPieces = P::kTokens / 8; // of 16 bytes in a row
        for (int i = threadIdx.x; i < P::kTokens * kPieces; i += P::kThreads) {
            char* const piece = to + i / kPieces * P::kBiasRow + i % kPieces * 16;
            copy_16(shared_address(piece), bias + 8 * i);
        }
    } else {
        constexpr int kKeys = 16 * P::kTiles;
        for (int i = threadIdx.x; i < kKeys * kKeys; i += P::kThreads) {
            int const row = i / kKeys;
            int const key = i % kKeys;
            float value = key < P::kTokens ? 0.0F : -INFINITY;
            if (row < P::kTokens && key < P::kTokens) {
                value = widen(bias[row * P::kTokens + key]);
            }
            narrow(value, reinterpret_cast<T*>(to + row * P::kBiasRow)[key]);
        }
    }
}

// Starts copying a head's bias of `qkv`, eight channels to each row of the other bias: of queries,
// then of values. Keys need none: it adds the same to all logits of a query.
template <typename P, typename T>
__device__ inline void copy_qkv_bias(WindowAttn const& problem, char* bias) {
    int const row = threadIdx.x;
    if (row < 8) {
        int const channel = (row / 4 * 2 * problem.heads + blockIdx.x) * kHeadSize + row % 4 * 8;
        copy_16(shared_address(bias) + row * P::kBiasRow + P::kBiasEnd,
                static_cast<T const*>(problem.padding) + channel);
    }
}

} // namespace codetr
