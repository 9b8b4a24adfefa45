"""Results compared to the last bit."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def same_bits(a: NDArray[Any], b: NDArray[Any]) -> bool:
    """Whether two arrays of one type are the same: so NaN is as good as the same NaN."""
    bits = f"u{a.dtype.itemsize}"
    return np.array_equal(a.view(bits), b.view(bits))


def has_nan(array: NDArray[Any]) -> bool:
    """Whether a value is NaN."""
    return bool(np.isnan(array).any())
