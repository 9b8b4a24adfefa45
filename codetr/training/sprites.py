"""Shapes that lie in pictures: digits, and distractors that are none.

A shape is a smooth height field; where it is above a threshold there is ink. Fields can be sampled
at any size and angle, and the edge stays one pixel wide. A field spans ``CELLS`` cells: the 8 of a
digit and an empty one on every side. It rises from 0 to 1 within about a cell.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from codetr.training.digits import Split, digits

CELLS = 10
DIGIT_CELLS = 8
SIDE = 80
"""Samples of a field along each side."""
_OF_A_KIND = 256
"""Distractors of each kind."""

# Segments between the points of a telephone's keypad, 1 top left to 9 bottom right. Only figures
# that nobody takes for a digit: no D (0), I (1), Z (2), S (5), G (6), B (8), P (9).
_FIGURES = tuple(
    "72 29 46,13 17 46 79,13 17 46,17 39 46,17 34 49,17 79,71 15 53 39,71 19 93,13 28,18 83,"
    "17 75 59 93,19 37,15 35 58,28 46,72 29 79,46 26 68,13 17 79,17 79 93,71 13 39,39 97 74,"
    "28 46 19,13 46 79,14 45 56 69".split(",")
)
_SEGMENTS = 4
_CURVED = (0, 2, 3, 5, 6, 8, 9)
"""Digits with parts that are no 1."""


@dataclass(frozen=True)
class Atlas:
    """All shapes of one split, digits first."""

    fields: Tensor
    """(N, SIDE, SIDE) float32, 0 to 1."""
    labels: Tensor
    """(digits,) int64: classes of the first shapes; the others are distractors."""


@cache
def atlas(split: Split, device: torch.device) -> Atlas:
    """Shapes for the pictures of a split; digits and parts of digits are its own."""
    ink, labels = digits(split)
    fields = _smooth(ink)
    generator = torch.Generator().manual_seed(("train", "test").index(split))
    curved = fields[torch.isin(labels, torch.tensor(_CURVED))]
    kinds = (
        _figures(generator),
        _figures(generator),  # twice, as they are the hardest
        _ellipses(generator),
        _lines(generator),
        _fragments(curved, generator),
    )
    return Atlas(torch.cat((fields, *kinds)).to(device), labels.to(device))


def _smooth(ink: Tensor) -> Tensor:
    """(N, 8, 8) -> (N, SIDE, SIDE): bicubic, with an empty border."""
    border = (CELLS - DIGIT_CELLS) // 2
    padded = F.pad(ink[:, None], (border,) * 4)
    return F.interpolate(padded, (SIDE, SIDE), mode="bicubic")[:, 0].clamp(0, 1)


def _figures(generator: torch.Generator) -> Tensor:
    """Letters and signs, drawn with an unsteady hand."""
    chosen = torch.randint(len(_FIGURES), (_OF_A_KIND,), generator=generator)
    ends = torch.tensor([_segments_of(figure) for figure in _FIGURES])[chosen]  # (N, 4, 2)
    keys = torch.cartesian_prod(torch.arange(-1.0, 2), torch.arange(-1.0, 2)).flip(-1)  # (9, 2)
    points = keys * torch.tensor((0.5, 0.65)) + 0.1 * torch.randn(
        (_OF_A_KIND, 9, 2), generator=generator
    )
    which = torch.arange(_OF_A_KIND)[:, None, None]
    radius = 0.05 + 0.08 * torch.rand((_OF_A_KIND, 1, 1), generator=generator)
    return _field(radius - _to_segments(points[which, ends]).amin(1))


def _segments_of(figure: str) -> list[list[int]]:
    segments = [[int(key) - 1 for key in segment] for segment in figure.split()]
    return segments + segments[-1:] * (_SEGMENTS - len(segments))


def _lines(generator: torch.Generator) -> Tensor:
    """Thin and thick lines from left to right, never upright as a 1."""
    heights = torch.rand((_OF_A_KIND, 1, 2), generator=generator) * 1.2 - 0.6
    sides = torch.tensor((-0.9, 0.9)).expand_as(heights)
    radius = 0.02 + 0.1 * torch.rand((_OF_A_KIND, 1, 1), generator=generator) ** 2
    return _field(radius - _to_segments(torch.stack((sides, heights), -1)).amin(1))


def _ellipses(generator: torch.Generator) -> Tensor:
    """Filled ones of any shape, and flat rings: round ones would be a 0."""
    widths, heights, thickness = torch.rand((3, _OF_A_KIND, 1, 1), generator=generator)
    x, y = _coordinates().unbind(-1)
    filled = torch.arange(_OF_A_KIND)[:, None, None] % 2 == 0
    half_height = torch.where(filled, 0.25 + 0.5 * heights, 0.15 + 0.15 * heights)
    radius = torch.hypot(x / (0.6 + 0.1 * widths), y / half_height)
    inside = (1 - radius) * half_height  # about the distance to the edge
    ring = (0.15 + 0.2 * thickness) * half_height - inside.abs()
    return _field(torch.where(filled, inside, ring))


def _fragments(fields: Tensor, generator: torch.Generator) -> Tensor:
    """A corner of a digit, about a quarter of it."""
    chosen = torch.randint(len(fields), (_OF_A_KIND,), generator=generator)
    angle = torch.rand((_OF_A_KIND, 1, 1), generator=generator) * 2 * math.pi
    x, y = _coordinates().unbind(-1)
    # Beyond two edges at a right angle through the middle.
    beyond = torch.minimum(x * angle.cos() + y * angle.sin(), y * angle.cos() - x * angle.sin())
    return torch.minimum(fields[chosen], _field(beyond))


def _coordinates() -> Tensor:
    """(SIDE, SIDE, 2): x and y of a field's samples, -1 to 1."""
    axis = (torch.arange(SIDE) + 0.5) / SIDE * 2 - 1
    return torch.stack(torch.meshgrid(axis, axis, indexing="xy"), dim=-1)


def _to_segments(ends: Tensor) -> Tensor:
    """(N, M, 2, 2) segments from one point to another -> (N, M, SIDE, SIDE) distances to them."""
    start, end = ends[:, :, None, None].unbind(-2)  # (N, M, 1, 1, 2)
    along = end - start
    offset = _coordinates() - start  # (N, M, SIDE, SIDE, 2)
    share = ((offset * along).sum(-1) / along.square().sum(-1)).clamp(0, 1)
    return (offset - share[..., None] * along).norm(dim=-1)


def _field(inside: Tensor) -> Tensor:
    """Signed distances in halves of a field, positive inside -> heights; the edge is at 0.5."""
    return (inside * CELLS / 2 + 0.5).clamp(0, 1)
