"""Where the tokens of all levels lie: valid region, positions, reference points, proposals.

The picture is always the top-left rectangle of the padded input, so the first row and column of
its mask say everything, and every quantity here is a row table joined with a column table.

Letters: B batch (1 where there are no masks: every picture fills the input), L levels, S tokens
of all levels, h and w the size of a level, C channels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
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
        valid = [
            torch.stack(
                (_count(heights, input_size[0], h), _count(widths, input_size[1], w)), dim=-1
            )
            for h, w in sizes
        ]
        picture = torch.stack((heights, widths), dim=-1)
        return cls(sizes, level_sizes, torch.stack(valid, dim=1), picture)

    def valid_ratios(self) -> Tensor:
        """(B, L, 2) float32: valid share of every level's width and height (in that order)."""
        return (self.valid_sizes / self.level_sizes).flip(-1)

    def positions(self, channels: int) -> list[Tensor]:
        """Sine position encoding of each level, (B, h, w, C) float32: C/2 for y, then C/2 for x.

        As ``mmdet``'s SinePositionalEncoding (normalised, offset 0) over the level's mask. Padded
        columns count no rows and padded rows no columns: their angle is 0.
        """
        encodings = []
        for level, (h, w) in enumerate(self.sizes):
            valid_h, valid_w = self.valid_sizes[:, level, :, None].unbind(1)  # each (B, 1)
            rows = _position_table(h, valid_h, channels // 2)  # (B, h, C/2)
            columns = _position_table(w, valid_w, channels // 2)  # (B, w, C/2)
            nowhere = sine_embedding(rows.new_zeros(()), channels // 2, POSITION_TEMPERATURE)
            row_valid = (_indices(h, rows) < valid_h)[:, :, None, None]  # (B, h, 1, 1)
            column_valid = (_indices(w, rows) < valid_w)[:, None, :, None]  # (B, 1, w, 1)
            y = torch.where(column_valid, rows[:, :, None], nowhere)  # (B, h, w, C/2)
            x = torch.where(row_valid, columns[:, None], nowhere)
            encodings.append(torch.cat((y, x), dim=-1))
        return encodings

    def reference_points(self) -> Tensor:
        """(B, S, 2) float32: centre x, y of every token relative to the valid region."""
        points = []
        for level, (h, w) in enumerate(self.sizes):
            valid_h, valid_w = self.valid_sizes[:, level, :, None].float().unbind(1)  # (B, 1)
            y = (_indices(h, valid_h) + 0.5) / valid_h  # (B, h)
            x = (_indices(w, valid_w) + 0.5) / valid_w  # (B, w)
            grid = torch.stack(
                (x[:, None].expand(-1, h, -1), y[:, :, None].expand(-1, -1, w)), dim=-1
            )
            points.append(grid.flatten(1, 2))  # (B, h*w, 2)
        return torch.cat(points, dim=1)

    def proposals(self, reference_points: Tensor) -> tuple[Tensor, Tensor]:
        """One box around every token.

        Padded tokens lie beyond 1 and so are invalid without a look at the mask.

        Returns:
            (B, S, 4) float32 logits of cx, cy, w, h, and (B, S) bool: is valid.
        """
        sides = torch.cat(
            [
                reference_points.new_full((1, h * w, 2), PROPOSAL_SIZE * 2**level)
                for level, (h, w) in enumerate(self.sizes)
            ],
            dim=1,
        )
        boxes = torch.cat((reference_points, sides.expand_as(reference_points)), dim=-1)
        low, high = PROPOSAL_RANGE
        valid = ((boxes > low) & (boxes < high)).all(-1)
        # Beyond 1 the logarithm is NaN: select, never multiply.
        logits = torch.where(valid[..., None], torch.log(boxes / (1 - boxes)), INVALID_LOGIT)
        return logits, valid


def _count(valid: Tensor, length: int, level_length: int) -> Tensor:
    """(B,) int32: cells of a level that fall in the first ``valid`` (B,) of ``length`` pixels.

    The level's mask is the input's by nearest interpolation. PyTorch finds the source pixels in
    float32; for levels that halve the input they are these integers (tried up to 4096 pixels).
    """
    sources = (np.arange(level_length) * length // level_length).astype(np.float32)
    source = torch.from_numpy(sources).to(valid.device)
    return (source < valid[:, None]).sum(1, dtype=torch.int32)


def _indices(length: int, like: Tensor) -> Tensor:
    """(length,) float32: 0, 1, 2 …"""
    return torch.arange(length, dtype=torch.float32, device=like.device)


def _position_table(length: int, valid: Tensor, channels: int) -> Tensor:
    """(B, length, channels) float32: sine embedding of the share of ``valid`` (B, 1) passed."""
    passed = torch.minimum(_indices(length, valid) + 1, valid.float())  # (B, length)
    # The same valid length again, as a cumulative sum over the mask ends with it.
    return sine_embedding(passed / (valid + POSITION_EPS) * TWO_PI, channels, POSITION_TEMPERATURE)
