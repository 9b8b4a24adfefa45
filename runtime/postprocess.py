"""Model outputs -> detections of the original picture: rescale, then non-maximum suppression."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Indices = NDArray[np.int64]

NmsMode = Literal["soft", "hard", "none"]
NMS_MODES: tuple[NmsMode, ...] = get_args(NmsMode)


def rescale_boxes(boxes: Floats, scale: tuple[float, float]) -> Floats:
    """Boxes (N, 4) in pixels of the model input -> pixels of the original picture.

    Args:
        boxes: float32 x1 y1 x2 y2.
        scale: an entry of ``PreparedBatch.scales``: input pixels per original pixel in x and y.
    """
    factors: Floats = np.array(scale * 2, np.float32)  # x y x y
    return boxes / factors


def nms(
    boxes: Floats,
    scores: Floats,
    labels: Indices,
    *,
    mode: NmsMode,
    iou_threshold: float = 0.8,
    min_score: float = 1e-3,
) -> tuple[Indices, Floats]:
    """Class-aware non-maximum suppression, bit for bit ``mmcv.ops.batched_nms`` on the CPU.

    Args:
        boxes: (N, 4) float32, x1 y1 x2 y2.
        scores: (N,) float32.
        labels: (N,) class indices; boxes of different classes do not see each other.
        mode: ``soft`` multiplies the score of a box by 1 - IoU with each better box it overlaps
            by ``iou_threshold`` or more (linear soft-NMS, what Co-DETR is evaluated with);
            ``hard`` drops a box that overlaps a better one by more than that;
            ``none`` keeps everything as it is.
        iou_threshold: in 0..1.
        min_score: soft only: a box whose score falls below is dropped.

    Returns:
        Indices (K,) of the kept boxes, best first (``none``: all, in the order given), and
        their new scores (K,) float32.
    """
    if mode == "none" or not len(boxes):
        return np.arange(len(boxes)), scores
    # Far apart per class. float32 on purpose: at label 79 this rounds coordinates to about
    # 0.004 px, and the original's IoUs are those of the rounded boxes.
    separated = boxes + (labels.astype(np.float32) * (boxes.max() + 1))[:, None]
    iou = _pairwise_iou(separated)
    if mode == "hard":
        kept = _hard_nms(iou, scores, iou_threshold)
        return kept, scores[kept]
    return _soft_nms(iou, scores, iou_threshold, min_score)


def _hard_nms(iou: Floats, scores: Floats, iou_threshold: float) -> Indices:
    """Indices kept by greedy suppression (mmcv ``nms_cpu``), best first."""
    kept = []
    order = np.argsort(-scores, kind="stable")
    while len(order):
        best, order = order[0], order[1:]
        kept.append(best)
        # Negated, so that the NaN of two empty boxes keeps the box, as in the original.
        order = order[~(iou[best, order] > iou_threshold)]
    return np.array(kept, np.int64)


def _soft_nms(
    iou: Floats, scores: Floats, iou_threshold: float, min_score: float
) -> tuple[Indices, Floats]:
    """Linear soft-NMS (mmcv ``softnms_cpu``), the inner loop as vector operations.

    Equal scores are decided by position, so the original's in-place swaps are followed exactly.
    """
    overlaps = iou >= iou_threshold  # (N, N)
    weights = np.where(overlaps, 1 - iou, np.float32(1))
    alone = overlaps.sum(axis=1) <= overlaps.diagonal()  # overlaps itself at most
    kept, kept_scores = [], []
    order, scores = np.arange(len(scores)), scores.copy()
    settled = bool((scores >= min_score).all())
    while len(order):
        position = scores.argmax()
        best = order[position]
        kept.append(best)
        kept_scores.append(scores[position])
        # The original swaps the best box with the first of those left.
        order[position], scores[position] = order[0], scores[0]
        order, scores = order[1:], scores[1:]
        if settled and alone[best]:  # as most boxes are: no score changes
            continue
        scores = scores * weights[best, order]
        alive = scores >= min_score
        settled = True
        if not alive.all():
            left = _swap_removal(alive)
            order, scores = order[left], scores[left]
    return np.array(kept, np.int64), np.array(kept_scores, np.float32)


def _swap_removal(alive: NDArray[np.bool_]) -> Indices:
    """Order left by a scan that fills the place of each dead element with the last one."""
    survivors = np.flatnonzero(alive)
    order = np.arange(len(survivors))
    holes = np.flatnonzero(~alive[: len(survivors)])
    order[holes] = survivors[len(survivors) - len(holes) :][::-1]
    return order


def _pairwise_iou(boxes: Floats) -> Floats:
    """IoU of each box (N, 4) with each: (N, N); NaN where both are empty."""
    x1, y1, x2, y2 = boxes.T
    width = np.minimum.outer(x2, x2) - np.maximum.outer(x1, x1)
    height = np.minimum.outer(y2, y2) - np.maximum.outer(y1, y1)
    intersection: Floats = np.maximum(width, 0) * np.maximum(height, 0)
    area = (x2 - x1) * (y2 - y1)
    with np.errstate(invalid="ignore"):
        iou: Floats = intersection / (np.add.outer(area, area) - intersection)
    return iou
