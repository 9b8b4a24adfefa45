"""The boxes of a batch as one padded table, relative to each picture."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from codetr.training.boxes import to_centres


@dataclass(frozen=True)
class Targets:
    """What is to be found; G is the largest number of boxes in a picture of the batch, at least 1.

    Rows beyond a picture's number of boxes are zeros.
    """

    labels: Tensor
    """(B, G) int64."""
    boxes: Tensor
    """(B, G, 4) float32: cx, cy, w, h in 0..1 of the picture."""
    counts: tuple[int, ...]
    """How many boxes every picture has."""

    @classmethod
    def from_lists(cls, labels: list[Tensor], boxes: list[Tensor], masks: Tensor) -> Targets:
        """From a batch's lists, with boxes in pixels, and its (B, H, W) masks."""
        counts = tuple(len(part) for part in labels)
        spare = [labels[0].new_zeros(1)], [boxes[0].new_zeros(1, 4)]  # so that G is at least 1
        padded = [
            pad_sequence([*parts, *extra], batch_first=True)[:-1]
            for parts, extra in zip((labels, boxes), spare, strict=True)
        ]
        heights, widths = (1 - masks[:, :, 0]).sum(1), (1 - masks[:, 0]).sum(1)
        scale = torch.stack((widths, heights, widths, heights), dim=-1)[:, None]  # (B, 1, 4)
        return cls(padded[0], to_centres(padded[1] / scale), counts)

    @property
    def total(self) -> int:
        """Boxes of the batch."""
        return sum(self.counts)

    def present(self) -> Tensor:
        """(B, G) bool: the rows that hold a box."""
        rows = torch.arange(self.labels.shape[1])
        return (rows < torch.tensor(self.counts)[:, None]).to(self.labels.device)
