# mypy: disable-error-code="untyped-decorator, no-untyped-def"
"""Triton kernels: bilinear sampling of all levels with its gradients, the hot spot of training.

``grid_sample`` writes every sample to memory and has one thread read a sample's channels one by
one; here a program keeps the sums of a few queries in registers and reads channels side by side.

Letters: B batch, S tokens, Q queries, M heads, D channels of a head, L levels, P points.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

QUERIES = 32
"""Queries of one program."""
_CHANGING = ("tokens", "queries", "valid_stride")
"""Numbers that differ from step to step: one compilation serves them all."""


def forward(
    value: Tensor, positions: Tensor, weights: Tensor, level_sizes: Tensor, valid_sizes: Tensor
) -> Tensor:
    """What ``codetr.deform_attn.sample`` is; (B, Q, M*D) in the type of ``value``.

    Args:
        value: (B, S, M*D) of any floating type; D is a power of two.
        positions: (B, Q, M, L, P, 2) float32.
        weights: (B, Q, M, L, P) float32.
        level_sizes: (L, 2) int32.
        valid_sizes: (B or 1, L, 2) int32.
    """
    batch, queries, heads, levels, points = weights.shape
    output = value.new_empty(batch, queries, value.shape[2])
    _forward[_grid(weights)](
        value.contiguous(),
        positions.contiguous(),
        weights.contiguous(),
        level_sizes,
        valid_sizes.contiguous(),
        output,
        value.shape[1],
        queries,
        2 * levels if len(valid_sizes) > 1 else 0,
        HEADS=heads,
        CHANNELS=value.shape[2] // heads,
        LEVELS=levels,
        POINTS=points,
        BLOCK=QUERIES,
    )
    return output


def backward(
    gradient: Tensor,
    value: Tensor,
    positions: Tensor,
    weights: Tensor,
    level_sizes: Tensor,
    valid_sizes: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of value, positions and weights from that of the output; all float32."""
    queries, heads, levels, points = weights.shape[1:]
    gradients = (
        torch.zeros_like(value, dtype=torch.float32, memory_format=torch.contiguous_format),
        torch.empty_like(positions, memory_format=torch.contiguous_format),
        torch.empty_like(weights, memory_format=torch.contiguous_format),
    )
    _backward[_grid(weights)](
        gradient.contiguous(),
        value.contiguous(),
        positions.contiguous(),
        weights.contiguous(),
        level_sizes,
        valid_sizes.contiguous(),
        *gradients,
        value.shape[1],
        queries,
        2 * levels if len(valid_sizes) > 1 else 0,
        HEADS=heads,
        CHANNELS=value.shape[2] // heads,
        LEVELS=levels,
        POINTS=points,
        BLOCK=QUERIES,
    )
    return gradients


def _grid(weights: Tensor) -> tuple[int, int]:
    batch, queries, heads = weights.shape[:3]
    return triton.cdiv(queries, QUERIES), batch * heads


@triton.jit
def _sizes(level_sizes, valid_sizes, level):
    """Height and width of a level and of its valid part."""
    return (
        tl.load(level_sizes + 2 * level),
        tl.load(level_sizes + 2 * level + 1),
        tl.load(valid_sizes + 2 * level),
        tl.load(valid_sizes + 2 * level + 1),
    )


@triton.jit
def _place(positions, index, valid_w, valid_h, there):
    """A sample in cells, the centre of the first being 0, and the cell at its upper left."""
    x = tl.load(positions + 2 * index, there, 0.0) - 0.5
    y = tl.load(positions + 2 * index + 1, there, 0.0) - 0.5
    # Far outside nothing is sampled either way, and integers hold the rest.
    x = tl.minimum(tl.maximum(x, -2.0), valid_w + 1.0)
    y = tl.minimum(tl.maximum(y, -2.0), valid_h + 1.0)
    return x, y, tl.floor(x), tl.floor(y)


@triton.jit
def _corner(x, y, valid_w, valid_h, start, level_w, row_length: tl.constexpr, inside):
    """Offset of a token from the picture's first one, and whether it is picture at all."""
    inside = inside & (x >= 0) & (x < valid_w) & (y >= 0) & (y < valid_h)
    return (start + y * level_w + x) * row_length, inside


@triton.jit(do_not_specialize=_CHANGING)
def _forward(
    value,
    positions,
    weights,
    level_sizes,
    valid_sizes,
    output,
    tokens,
    queries,
    valid_stride,
    HEADS: tl.constexpr,
    CHANNELS: tl.constexpr,
    LEVELS: tl.constexpr,
    POINTS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    query = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    batch = (tl.program_id(1) // HEADS).to(tl.int64)
    head = tl.program_id(1) % HEADS
    channel = tl.arange(0, CHANNELS)[None, :]
    row: tl.constexpr = HEADS * CHANNELS
    there = query < queries
    first = ((batch * queries + query) * HEADS + head) * (LEVELS * POINTS)
    plane = value + batch * tokens * row + head * CHANNELS
    total = tl.zeros((BLOCK, CHANNELS), tl.float32)
    valid = valid_sizes + batch * valid_stride
    start = 0
    for level in range(LEVELS):
        level_h, level_w, valid_h, valid_w = _sizes(level_sizes, valid, level)
        for point in range(POINTS):
            index = first + level * POINTS + point
            weight = tl.load(weights + index, there, 0.0)
            x, y, left, top = _place(positions, index, valid_w, valid_h, there)
            for corner in tl.static_range(4):
                corner_x = left + corner % 2
                corner_y = top + corner // 2
                share = (1 - tl.abs(x - corner_x)) * (1 - tl.abs(y - corner_y)) * weight
                offset, inside = _corner(
                    corner_x.to(tl.int32),
                    corner_y.to(tl.int32),
                    valid_w,
                    valid_h,
                    start,
                    level_w,
                    row,
                    there,
                )
                sampled = tl.load(plane + offset[:, None] + channel, inside[:, None], 0.0)
                total += share[:, None] * sampled.to(tl.float32)
        start += level_h * level_w
    target = output + (batch * queries + query)[:, None] * row + head * CHANNELS + channel
    tl.store(target, total.to(output.dtype.element_ty), there[:, None])


@triton.jit(do_not_specialize=_CHANGING)
def _backward(
    gradient,
    value,
    positions,
    weights,
    level_sizes,
    valid_sizes,
    value_gradient,
    positions_gradient,
    weights_gradient,
    tokens,
    queries,
    valid_stride,
    HEADS: tl.constexpr,
    CHANNELS: tl.constexpr,
    LEVELS: tl.constexpr,
    POINTS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    query = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    batch = (tl.program_id(1) // HEADS).to(tl.int64)
    head = tl.program_id(1) % HEADS
    channel = tl.arange(0, CHANNELS)[None, :]
    row: tl.constexpr = HEADS * CHANNELS
    there = query < queries
    first = ((batch * queries + query) * HEADS + head) * (LEVELS * POINTS)
    shift = batch * tokens * row + head * CHANNELS
    source = gradient + (batch * queries + query)[:, None] * row + head * CHANNELS + channel
    incoming = tl.load(source, there[:, None], 0.0).to(tl.float32)  # (BLOCK, CHANNELS)
    valid = valid_sizes + batch * valid_stride
    start = 0
    for level in range(LEVELS):
        level_h, level_w, valid_h, valid_w = _sizes(level_sizes, valid, level)
        for point in range(POINTS):
            index = first + level * POINTS + point
            weight = tl.load(weights + index, there, 0.0)
            x, y, left, top = _place(positions, index, valid_w, valid_h, there)
            along_x = tl.zeros((BLOCK,), tl.float32)
            along_y = tl.zeros((BLOCK,), tl.float32)
            along_weight = tl.zeros((BLOCK,), tl.float32)
            for corner in tl.static_range(4):
                corner_x = left + corner % 2
                corner_y = top + corner // 2
                share_x = 1 - tl.abs(x - corner_x)
                share_y = 1 - tl.abs(y - corner_y)
                offset, inside = _corner(
                    corner_x.to(tl.int32),
                    corner_y.to(tl.int32),
                    valid_w,
                    valid_h,
                    start,
                    level_w,
                    row,
                    there,
                )
                place = shift + offset[:, None] + channel
                sampled = tl.load(value + place, inside[:, None], 0.0).to(tl.float32)
                product = tl.sum(incoming * sampled, axis=1)
                along_weight += share_x * share_y * product
                along_x += (2 * (corner % 2) - 1) * share_y * product
                along_y += (2 * (corner // 2) - 1) * share_x * product
                tl.atomic_add(
                    value_gradient + place,
                    (share_x * share_y * weight)[:, None] * incoming,
                    inside[:, None],
                    sem="relaxed",
                )
            tl.store(weights_gradient + index, along_weight, there)
            tl.store(positions_gradient + 2 * index, along_x * weight, there)
            tl.store(positions_gradient + 2 * index + 1, along_y * weight, there)
        start += level_h * level_w
