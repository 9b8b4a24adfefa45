// Where one sample of deformable attention reads and with which weights: arithmetic only, shared
// by all kernels.
#pragma once

#include "ms_deform_attn.h"

#include <cmath>

namespace codetr {

// One level as a kernel needs it; 16 bytes, read at once.
struct alignas(16) Level {
    uint32_t start; // its first token
    uint32_t width;
    float valid_width;
    float valid_height;
};

// The four tokens around a position: `first`, `first + right`, both again `+ below`. Their
// weights are zero outside the valid region; the tokens are always readable.
struct Corners {
    float weight[4];
    uint32_t first;
};

// Token steps from the upper left corner; zero on a level too small to have a neighbour.
__device__ inline uint32_t right_step(Level const& level) {
    return level.valid_width > 1.0F ? 1U : 0U;
}
__device__ inline uint32_t below_step(Level const& level) {
    return level.valid_height > 1.0F ? level.width : 0U;
}

// Level `index` for image `batch`. A level that does not fit into the tokens is empty.
__device__ inline Level read_level(MsDeformAttn const& problem, int batch, int index) {
    uint64_t const tokens = problem.tokens;
    uint64_t start = 0; // wraps, where an int64_t must not
    for (int i = 0; i < index; ++i) {
        start += static_cast<int64_t>(problem.level_sizes[2 * i]) * problem.level_sizes[2 * i + 1];
    }
    int64_t const height = problem.level_sizes[2 * index];
    int64_t const width = problem.level_sizes[2 * index + 1];
    bool const fits = height > 0 && width > 0 && start <= tokens
                      && static_cast<uint64_t>(height * width) <= tokens - start;
    if (!fits) {
        return {0, 0, 0.0F, 0.0F};
    }
    size_t const image = problem.valid_batch > 1 ? batch : 0;
    size_t const row = image * problem.levels + index;
    int64_t const valid_height = problem.valid_sizes[2 * row];
    int64_t const valid_width = problem.valid_sizes[2 * row + 1];
    return {static_cast<uint32_t>(start), static_cast<uint32_t>(width),
            static_cast<float>(valid_width < width ? valid_width : width),
            static_cast<float>(valid_height < height ? valid_height : height)};
}

// A coordinate in cells, the centre of cell 0 being 0, as whole cells and the rest in [0, 1).
struct Position {
    float cell;
    float rest;
};

// Splits `reference * size + offset - 0.5`. In one float a coordinate of 480 cells would be off by
// up to 1.5e-5 cells; here the rounding of the product is kept and added to the small part.
__device__ inline Position locate(float reference, float size, float offset) {
    float const centre = reference * size;
    float const rounding = fmaf(reference, size, -centre);
    float const cell = floorf(centre);
    float const rest = (centre - cell) + (rounding + (offset - 0.5F));
    float const carry = floorf(rest);
    return {cell + carry, rest - carry};
}

// The two cells that a position lies between, moved into [0, size), and their linear weights.
struct Pair {
    float first;
    float weight[2];
};

// A cell weighs 1 minus its distance: the move needs no case for positions at or past the border.
// A position that is NaN weighs nothing.
__device__ inline Pair weigh(float first, float distance, float size) {
    float const left = __saturatef(1.0F - fabsf(distance));
    float const right = __saturatef(1.0F - fabsf(distance - 1.0F));
    return {first, {size > 0.0F ? left : 0.0F, size > 1.0F ? right : 0.0F}};
}

// fminf drops NaN, so that the cell can be read whatever the position is.
__device__ inline float nearest_cell(float cell, float size) {
    return fmaxf(fminf(cell, size - 2.0F), 0.0F);
}

__device__ inline Pair neighbours(Position position, float size) {
    float const first = nearest_cell(position.cell, size);
    return weigh(first, (position.cell - first) + position.rest, size);
}

// From a coordinate in a single float.
__device__ inline Pair neighbours(float coordinate, float size) {
    float const first = nearest_cell(floorf(coordinate), size);
    return weigh(first, coordinate - first, size);
}

// The reference of one query. What an offset of 1 means: one cell for points, for boxes
// 1 / (2P) of the box, `unit_x` and `unit_y` of the valid region.
struct Reference {
    float x, y;
    float unit_x, unit_y;
    bool box;
};

__device__ inline Reference read_reference(MsDeformAttn const& problem, int batch,
                                                    uint32_t query) {
    int const image = problem.reference_batch > 1 ? batch : 0;
    size_t const row = static_cast<size_t>(image) * problem.queries + query;
    float const* at = problem.reference + row * problem.reference_size;
    if (problem.reference_size == 2) {
        return {at[0], at[1], 0.0F, 0.0F, false};
    }
    float const unit = 0.5F / static_cast<float>(problem.points);
    return {at[0], at[1], at[2] * unit, at[3] * unit, true};
}

// An offset as whole cells and a small rest.
struct Offset {
    float cells;
    float rest;
};

// An offset of points is small as it is. One of boxes can be many cells long: both its products
// keep their rounding, and the whole cells stay out of the sum with the small parts.
__device__ inline Offset measure(float offset, bool box, float unit, float size) {
    if (!box) {
        return {0.0F, offset};
    }
    float const reach = unit * size;
    float const length = offset * reach;
    float const rounding = fmaf(offset, reach, -length) + offset * fmaf(unit, size, -reach);
    float const cells = floorf(length);
    return {cells, (length - cells) + rounding};
}

// Exact: for float32 values, whose rounding is as small as that of a coordinate in one float.
__device__ inline Pair exact_neighbours(float reference, float size, float offset, bool box,
                                        float unit) {
    Offset const shift = measure(offset, box, unit, size);
    Position position = locate(reference, size, shift.rest);
    position.cell += shift.cells;
    return neighbours(position, size);
}

// For 16-bit values: up to 3e-5 of 480 cells off, a fifteenth of their smallest rounding.
__device__ inline Pair quick_neighbours(float reference, float size, float offset, bool box,
                                        float unit) {
    float const reach = box ? unit * size : 1.0F;
    return neighbours(fmaf(offset, reach, fmaf(reference, size, -0.5F)), size);
}

// Tokens and weights of one sample; `weight` is its softmax weight.
template <bool kExact>
__device__ inline Corners sample_corners(Level const& level, Reference const& reference,
                                         float offset_x, float offset_y, float weight) {
    auto constexpr kNeighbours = kExact ? exact_neighbours : quick_neighbours;
    Pair const x = kNeighbours(reference.x, level.valid_width, offset_x, reference.box,
                               reference.unit_x);
    Pair const y = kNeighbours(reference.y, level.valid_height, offset_y, reference.box,
                               reference.unit_y);
    float const upper = y.weight[0] * weight;
    float const lower = y.weight[1] * weight;
    uint32_t const token = static_cast<uint32_t>(y.first) * level.width
                           + static_cast<uint32_t>(x.first);
    return {{upper * x.weight[0], upper * x.weight[1], lower * x.weight[0], lower * x.weight[1]},
            level.start + token};
}

} // namespace codetr
