"""Which digits exist and who may see them: handwritten ones of UCI, from scikit-learn."""

from __future__ import annotations

from functools import cache
from typing import Literal

import torch
from torch import Tensor

Split = Literal["train", "test"]

CLASSES = tuple("0123456789")
TEST_DIGITS = 36
"""Of the 174 to 183 of each class. Drawn one by one, so most writers have digits on both sides."""
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
    labels = torch.from_numpy(data.target).long()
    index = digit_indices(split, labels)
    ink = torch.from_numpy(data.images).float() / _FULL_INK
    return ink[index], labels[index]


def digit_indices(split: Split, labels: Tensor) -> Tensor:
    """(N,) int64: which of the digits with these (total,) labels belong to a side."""
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(_SPLIT_SEED))
    of_classes = [order[labels[order] == label] for label in labels.unique()]
    part = slice(TEST_DIGITS) if split == "test" else slice(TEST_DIGITS, None)
    return torch.cat([of_class[part] for of_class in of_classes])
