"""Where the shapes of a picture lie and how they look; drawn on the CPU, quick at small work.

Letters: B pictures, K shapes in each, nearest first.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from codetr.training.sprites import CELLS, DIGIT_CELLS, Atlas

MAX_DIGITS = 12
MAX_DISTRACTORS = 8
DIGIT_HEIGHTS = (12.0, 160.0)
_DISTRACTOR_HEIGHTS = (12.0, 200.0)
_LARGEST = 0.6
"""Height of a shape, at most, relative to the picture's shorter side."""
_ANGLE = math.radians(30)
_ATTEMPTS = 3
"""Places that are tried for each shape; the freest is taken, so shapes overlap at times."""


@dataclass(frozen=True)
class Layout:
    """Shapes of a batch of pictures."""

    present: Tensor
    """(B, K) bool."""
    is_digit: Tensor
    """(B, K) bool."""
    sprites: Tensor
    """(B, K) int64 in the atlas."""
    heights: Tensor
    """(B, K) float32 of an upright digit, in pixels."""
    centres: Tensor
    """(B, K, 2) float32 x, y in pixels."""
    to_sprite: Tensor
    """(B, K, 2, 2) float32: from pixels around the centre to a field's -1 to 1."""
    thresholds: Tensor
    """(B, K) float32: where the ink of a field begins; a low one makes strokes broad."""
    contrasts: Tensor
    """(B, K) float32, -1 to 1: darker or brighter than what lies around."""
    tints: Tensor
    """(B, K, 3) float32 RGB that is added, -1 to 1."""

    def to(self, device: torch.device) -> Layout:
        """Copy to a device, which is not waited for."""
        tensors = {
            name: tensor.to(device, non_blocking=True) for name, tensor in vars(self).items()
        }
        return Layout(**tensors)

    def cell_sides(self) -> Tensor:
        """(B, K) float32: pixels along the side of a field's cell, if that were a square."""
        (a, b), (c, d) = (row.unbind(-1) for row in self.to_sprite.unbind(-2))
        return (a * d - b * c).abs() ** -0.5 * 2 / CELLS


def random_layout(
    shapes: Atlas, sizes: Sequence[tuple[int, int]], generator: torch.Generator
) -> Layout:
    """Draw shapes for pictures of the given (h, w)."""
    count = MAX_DIGITS + MAX_DISTRACTORS
    shape = (len(sizes), count)

    def between(low: float, high: float, *more: int) -> Tensor:
        return torch.rand((*shape, *more), generator=generator) * (high - low) + low

    number_of = torch.rand((2, len(sizes), 1), generator=generator)
    digits = (number_of[0] * (MAX_DIGITS + 1)).int()
    distractors = (number_of[1] * (MAX_DISTRACTORS + 1)).int()
    rank = between(0, 1).argsort(dim=1).argsort(dim=1)  # which shapes are which, in any order
    is_digit = rank < digits

    room = torch.tensor(sizes)  # (B, 2) h, w
    heights = torch.where(
        is_digit,
        _of_roots(between(0, 1), DIGIT_HEIGHTS),
        _of_roots(between(0, 1), _DISTRACTOR_HEIGHTS),
    ).minimum(_LARGEST * room.amin(1, keepdim=True))
    return Layout(
        present=rank < digits + distractors,
        is_digit=is_digit,
        sprites=_random_sprites(shapes, is_digit, between(0, 1)),
        heights=heights,
        centres=_places(heights, is_digit, room, between(0, 1, _ATTEMPTS, 2)),
        to_sprite=_to_sprite(
            heights, between(-_ANGLE, _ANGLE), between(-0.25, 0.25), between(0.7, 1.2)
        ),
        thresholds=torch.where(is_digit, between(0.35, 0.52), 0.5),
        contrasts=between(-1, 1),
        tints=between(-1, 1, 3),
    )


def _of_roots(uniform: Tensor, limits: tuple[float, float]) -> Tensor:
    """Heights whose square roots are uniform: more small shapes than large, not too many tiny."""
    low, high = (math.sqrt(limit) for limit in limits)
    return (uniform * (high - low) + low) ** 2


def _random_sprites(shapes: Atlas, is_digit: Tensor, uniform: Tensor) -> Tensor:
    digits, every = len(shapes.labels), len(shapes.fields)
    return (
        torch.where(is_digit, uniform * digits, digits + uniform * (every - digits))
        .long()
        .clamp(max=every - 1)
    )


def _to_sprite(heights: Tensor, angles: Tensor, shears: Tensor, aspects: Tensor) -> Tensor:
    """Inverse of: stretch, then shear, then rotate."""
    half = heights * (CELLS / DIGIT_CELLS / 2)
    zero, one = torch.zeros_like(half), torch.ones_like(half)
    rotation = _matrix(angles.cos(), -angles.sin(), angles.sin(), angles.cos())
    shear = _matrix(one, shears, zero, one)
    stretch = _matrix(half * aspects, zero, zero, half)
    return torch.linalg.inv(rotation @ shear @ stretch)


def _matrix(a: Tensor, b: Tensor, c: Tensor, d: Tensor) -> Tensor:
    return torch.stack((a, b, c, d), dim=-1).unflatten(-1, (2, 2))  # (B, K, 2, 2)


def _places(heights: Tensor, is_digit: Tensor, room: Tensor, uniform: Tensor) -> Tensor:
    """Centres of all shapes, one after the other; (B, K, 2).

    Args:
        heights: (B, K).
        is_digit: (B, K).
        room: (B, 2) height and width of the pictures.
        uniform: (B, K, attempts, 2) random numbers.
    """
    # A shape may stick out a little.
    margin = 0.35 * heights[..., None, None]
    candidates = margin + uniform * (room.flip(-1)[:, None, None] - 2 * margin)
    radius = heights * torch.where(is_digit, 0.45, 0.25)
    centres = candidates[:, :, 0].clone()
    pictures = torch.arange(len(room))
    for k in range(1, heights.shape[1]):
        apart = (candidates[:, k, :, None] - centres[:, None, :k]).norm(dim=-1)  # (B, attempts, k)
        overlap = (radius[:, k, None, None] + radius[:, None, :k] - apart).clamp(min=0)
        best = (
            (overlap / torch.minimum(radius[:, k, None], radius[:, :k])[:, None])
            .amax(-1)
            .argmin(-1)
        )
        centres[:, k] = candidates[pictures, k, best]
    return centres
