"""Errors of tensors and detections against a reference, worst over all pictures. Numpy only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.backend import RawOutputs
from trt_build.agreement import agreement

Floats = NDArray[np.float32]

LIMITS = {"fp32": 1e-3, "fp16": 2e-2, "bf16": 1e-1, "fp8": 3e-1}
"""Largest relative error of a stage, by the precision of the export.

Rounding to fp16 was measured at 3e-4 to 3e-3 (small presets, random weights, ONNX Runtime), and a
flipped kernel in the neck at 1.4. bf16 rounds 8 times coarser; fp32 far finer, and there the limit
leaves room for another order of sums. Each limit is some 10 times what rounding gives, or more;
with fp8 that was 2e-2 to 5e-2 (the small detector, PyTorch), so that its limit is 6 times as much.
"""


@dataclass(frozen=True, slots=True)
class StageError:
    """How far one tensor is from the reference's."""

    name: str
    max_error: float
    """Largest absolute error."""
    relative_error: float
    """RMS of the difference / RMS of the reference."""
    max_reference: float
    """Largest absolute value of the reference."""
    finite: bool
    """Neither side has NaN or infinities."""

    def within(self, limit: float) -> bool:
        """Whether the stage is right."""
        return self.finite and self.relative_error <= limit

    def worse(self, other: StageError) -> StageError:
        """The worst of both, number by number; NaN is the worst."""
        return StageError(
            self.name,
            float(np.maximum(self.max_error, other.max_error)),
            float(np.maximum(self.relative_error, other.relative_error)),
            float(np.maximum(self.max_reference, other.max_reference)),
            self.finite and other.finite,
        )


def stage_error(name: str, found: Floats, reference: Floats) -> StageError:
    """Compare one tensor of one picture; the shapes are equal."""
    finite = bool(np.isfinite(found).all() and np.isfinite(reference).all())
    with np.errstate(invalid="ignore", over="ignore"):
        difference = found - reference
        size = _rms(reference)
        return StageError(
            name,
            float(np.abs(difference).max()),
            # A stage of zeros has no size to compare with: then any error is too large.
            _rms(difference) / size if size else float(np.abs(difference).max() and np.inf),
            float(np.abs(reference).max()),
            finite,
        )


@dataclass(frozen=True, slots=True)
class DetectionErrors:
    """How far the detections of one side are from the reference's, over all pictures."""

    agreement: float
    """See ``trt_build.agreement``."""
    max_score_difference: float
    """Largest, between detections of the same rank."""
    not_finite: tuple[str, ...]
    """Outputs, of either side, with NaN or infinities."""


def detection_errors(
    found: Sequence[RawOutputs], reference: Sequence[RawOutputs]
) -> DetectionErrors:
    """Compare what was detected in each batch of pictures."""
    ours, theirs = (
        RawOutputs(*map(np.concatenate, zip(*side, strict=True))) for side in (found, reference)
    )
    sides: dict[str, tuple[NDArray[Any], ...]] = {"": ours, "reference's ": theirs}
    return DetectionErrors(
        agreement(ours, theirs),
        float(np.abs(ours.scores - theirs.scores).max()),
        tuple(
            f"{side}{name}"
            for side, outputs in sides.items()
            for name, array in zip(RawOutputs._fields, outputs, strict=True)
            if not np.isfinite(array).all()
        ),
    )


def _rms(x: Floats) -> float:
    return float(np.sqrt(np.mean(np.square(x, dtype=np.float64))))
