"""Where the tokens of all levels lie: valid region, positions, reference points, proposals.

The picture is always the top-left rectangle of the padded input, so the first row and column of
its mask say everything, and every quantity here is a row table joined with a column table.

Letters: B batch (1 where there are no masks: every picture fills the input), L levels, S tokens
of all levels, h and w the size of a level, C channels.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from codetr.layers import TWO_PI, sine_embedding

POSITION_TEMPERATURE = 20
POSITION_EPS = 1e-6
PROPOSAL_SIZE = 0.05
"""Side of a level-0 proposal relative to the picture; doubles with every level."""
PROPOSAL_RANGE = (0.01, 0.99)
"""Proposals with a centre or side outside are invalid."""
INVALID_LOGIT = 1e4
"""Box logit of an invalid proposal: its sigmoid is 1, and sums with it stay finite."""


@dataclass(frozen=True)
class Geometry:
    """Sizes of the levels and of the part of them that is picture."""

    sizes: tuple[tuple[int, int], ...]
    """(h, w) of each level."""
    level_sizes: Tensor
    """(L, 2) int32, the same."""
    valid_sizes: Tensor
    """(B or 1, L, 2) int32: valid h and w of each level."""
    picture_sizes: Tensor
    """(B or 1, 2) float32: height and width in pixels of the picture inside the padded input."""

    @classmethod
    def from_masks(
        cls,
        masks: Tensor | None,
        input_size: tuple[int, int],
        sizes: tuple[tuple[int, int], ...],
        device: torch.device,
    ) -> Geometry:
        """Measure the valid region on every level.

        Args:
            masks: (B, H, W) float32, 0 picture and 1 padding, or None for no padding at all.
            input_size: (H, W) of the padded input.
            sizes: (h, w) of each level.
            device: where the tensors are made.
        """
        level_sizes = torch.tensor(sizes, dtype=torch.int32, device=device)
        if masks is None:
            picture = torch.tensor([input_size], dtype=torch.float32, device=device)
            return cls(sizes, level_sizes, level_sizes[None], picture)
        heights = (1 - masks[:, :, 0]).sum(1)  # (B,)
        widths = (1 - masks[:, 0, :]).sum(1)
        picture = torch.stack((heights, widths), dim=-1)
        lengths = _lengths(sizes)
        owner = _owners(lengths, device)
        valid = _sources(lengths, input_size, device) < picture.index_select(1, owner % 2)  # (B, T)
        # A product with ones counts all lines at once.
        counts = valid.float() @ F.one_hot(owner, len(lengths)).float()  # (B, 2L)
        return cls(sizes, level_sizes, counts.int().unflatten(1, (-1, 2)), picture)

    def valid_ratios(self) -> Tensor:
        """(B, L, 2) float32: valid share of every level's width and height (in that order)."""
        return (self.valid_sizes / self.level_sizes).flip(-1)

    def positions(self, channels: int) -> list[Tensor]:
        """Sine position encoding of each level, (B, h, w, C) float32: C/2 for y, then C/2 for x.

        As ``mmdet``'s SinePositionalEncoding (normalised, offset 0) over the level's mask. Padded
        columns count no rows and padded rows no columns: their angle is 0.
        """
        index, valid = self._lines()
        passed = torch.minimum(index + 1, valid)  # (B, T)
        # The same valid length again, as a cumulative sum over the mask ends with it.
        angle = passed / (valid + POSITION_EPS) * TWO_PI
        tables = sine_embedding(angle, channels // 2, POSITION_TEMPERATURE)  # (B, T, C/2)
        # Without a product TensorRT joins what follows with the sines, and computes those anew
        # for every token: 0.43 ms at 1280 x 1920 on an H200.
        tables = tables @ torch.eye(channels // 2, device=tables.device)
        nowhere = sine_embedding(angle.new_zeros(()), channels // 2, POSITION_TEMPERATURE)
        encodings = []
        for (rows, row_valid), (columns, column_valid) in zip(
            *self._per_level(tables, index < valid), strict=True
        ):
            y = torch.where(column_valid[:, None, :, None], rows[:, :, None], nowhere)
            x = torch.where(row_valid[:, :, None, None], columns[:, None], nowhere)
            encodings.append(torch.cat((y, x), dim=-1))  # each (B, h, w, C/2)
        return encodings

    def reference_points(self) -> Tensor:
        """(B, S, 2) float32: centre x, y of every token relative to the valid region."""
        index, valid = self._lines()
        points = []
        for (y,), (x,) in zip(*self._per_level((index + 0.5) / valid), strict=True):
            height, width = y.shape[1], x.shape[1]
            grid = torch.stack(
                (x[:, None].expand(-1, height, -1), y[:, :, None].expand(-1, -1, width)), dim=-1
            )
            points.append(grid.flatten(1, 2))  # (B, h*w, 2)
        return torch.cat(points, dim=1)

    def proposals(self, reference_points: Tensor) -> Tensor:
        """(B, S, 4) float32: a box cx, cy, w, h around every token."""
        sides = [
            reference_points.new_full((1, h * w, 2), PROPOSAL_SIZE * 2**level)
            for level, (h, w) in enumerate(self.sizes)
        ]
        sides_of_all = torch.cat(sides, dim=1).expand_as(reference_points)
        return torch.cat((reference_points, sides_of_all), dim=-1)

    def _lines(self) -> tuple[Tensor, Tensor]:
        """All rows and columns of all levels in one, T: level 0's rows, its columns, level 1's …

        Returns:
            (T,) float32 number within rows or columns, (B, T) float32 how many of them are valid.
        """
        device = self.valid_sizes.device
        lengths = _lengths(self.sizes)
        index = [torch.arange(n, dtype=torch.float32, device=device) for n in lengths]
        valid = self.valid_sizes.flatten(1).index_select(1, _owners(lengths, device))
        return torch.cat(index), valid.float()

    def _per_level(self, *tables: Tensor) -> tuple[list[tuple[Tensor, ...]], ...]:
        """(B, T, …) tables of all lines -> for each level its rows', and for each its columns'."""
        lengths = _lengths(self.sizes)
        parts = list(zip(*(table.split(lengths, dim=1) for table in tables), strict=True))
        return parts[0::2], parts[1::2]


def is_proposal(boxes: Tensor) -> Tensor:
    """(..., 4) -> (...) bool: all of cx, cy, w, h are in the range of valid proposals.

    Padded tokens lie beyond 1 and so are invalid without a look at the mask.
    """
    low, high = PROPOSAL_RANGE
    return ((boxes > low) & (boxes < high)).all(-1)


def proposal_logits(boxes: Tensor) -> Tensor:
    """(..., 4) boxes -> their logits, float32."""
    # Beyond 1 the logarithm is NaN: select, never multiply.
    logits = torch.log(boxes / (1 - boxes))
    return torch.where(is_proposal(boxes)[..., None], logits, INVALID_LOGIT)


def _lengths(sizes: tuple[tuple[int, int], ...]) -> list[int]:
    """How many rows level 0 has, how many columns, how many rows level 1 …"""
    return [length for size in sizes for length in size]


def _owners(lengths: list[int], device: torch.device) -> Tensor:
    """(T,) int64: which of ``lengths`` a line belongs to."""
    owners = [torch.full((n,), owner, device=device) for owner, n in enumerate(lengths)]
    return torch.cat(owners)


def _sources(lengths: list[int], input_size: tuple[int, int], device: torch.device) -> Tensor:
    """(T,) float32: the input's row or column that each line stands for.

    A level's mask is the input's by nearest interpolation. PyTorch finds the source pixels in
    float32; for levels that halve the input they are these integers (tried up to 4096 pixels).
    """
    sources = [
        torch.arange(length, device=device) * input_size[axis % 2] // length
        for axis, length in enumerate(lengths)
    ]
    return torch.cat(sources).float()
