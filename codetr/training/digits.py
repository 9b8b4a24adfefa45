"""Which digits exist and who may see them: handwritten ones of UCI, from scikit-learn."""

from __future__ import annotations

from functools import cache
from typing import Literal

import torch
from torch import Tensor

Split = Literal["train", "test"]

CLASSES = tuple("0123456789")
TEST_DIGITS = 360
"""Of 1797 digits. Drawn one by one, so most writers have digits on both sides."""
_SPLIT_SEED = 0
_FULL_INK = 16


@cache
def digits(split: Split) -> tuple[Tensor, Tensor]:
    """The digits of one side.

    Returns:
        (N, 8, 8) float32 ink from 0 none to 1 full, (N,) int64 labels.
    """
    from sklearn.datasets import load_digits

    data = load_digits()
    index = digit_indices(split, len(data.target))
    ink = torch.from_numpy(data.images).float() / _FULL_INK
    return ink[index], torch.from_numpy(data.target).long()[index]


def digit_indices(split: Split, total: int) -> Tensor:
    """(N,) int64: which of ``total`` digits belong to a side."""
    order = torch.randperm(total, generator=torch.Generator().manual_seed(_SPLIT_SEED))
    return order[:TEST_DIGITS] if split == "test" else order[TEST_DIGITS:]
