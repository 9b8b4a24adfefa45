"""How far two sets of detections agree. Numpy only.

Letters: N, M detections of one picture.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from runtime.backend import RawOutputs

MIN_SCORE = 0.1
"""What counts as a detection."""
MIN_IOU = 0.95
MAX_SCORE_DIFFERENCE = 0.02

_SHARE_OF_BEST = 0.5
_Floats = NDArray[np.float32]


def agreement(found: RawOutputs, reference: RawOutputs) -> float:
    """Share of the detections of either side that the other has too; 0 if there are none.

    Detections are those with a score of ``MIN_SCORE`` or more. In a picture where the reference
    has none, half of its best score is enough: models that are sure of little (synthetic weights,
    empty scenes) are compared by their best detections, not by none. Had means: same label, IoU
    and score within the limits above; it may be by one whose score is just too low to count.

    Args:
        found: (B, N, …); NaN agrees with nothing.
        reference: (B, M, …).
    """
    confirmed, count = 0, 0
    for row in range(len(reference.boxes)):
        sides = [RawOutputs(*(array[row] for array in side)) for side in (found, reference)]
        best = float(sides[1].scores.max())
        least = MIN_SCORE if best >= MIN_SCORE else _SHARE_OF_BEST * best
        for x, y in (sides, sides[::-1]):
            same = pairwise_iou(x.boxes, y.boxes) >= MIN_IOU  # (N, M)
            same &= x.labels[:, None] == y.labels
            same &= np.abs(x.scores[:, None] - y.scores) <= MAX_SCORE_DIFFERENCE
            confident = x.scores >= least
            confirmed += int((same.any(1) & confident).sum())
            count += int(confident.sum())
    return confirmed / count if count else 0.0


def pairwise_iou(a: _Floats, b: _Floats) -> _Floats:
    """IoU of boxes (N, 4) with boxes (M, 4): (N, M); NaN where both are empty."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    both = np.prod(np.clip(high - low, 0, None), axis=-1)
    areas = [np.prod(boxes[:, 2:] - boxes[:, :2], axis=-1) for boxes in (a, b)]
    with np.errstate(invalid="ignore"):
        iou: _Floats = both / (areas[0][:, None] + areas[1] - both)
    return iou
