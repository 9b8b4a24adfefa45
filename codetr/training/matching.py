"""Hungarian matching of predictions and boxes (DETR, arXiv 2005.12872), for all layers at once.

Letters: N sets of predictions (decoder layers and proposals), B batch, Q queries, K classes,
G boxes of a picture at most, T pairs.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from codetr.training.boxes import overlaps, to_corners
from codetr.training.targets import Targets

CLASS_COST, L1_COST, GIOU_COST = 2.0, 5.0, 2.0
ALPHA, GAMMA = 0.25, 2.0
"""Of the focal loss that a class's cost is taken from."""


class Pairs(NamedTuple):
    """Which prediction answers for which box; (T,) int64 each."""

    sets: Tensor
    pictures: Tensor
    queries: Tensor
    boxes: Tensor
    """Row of the picture's boxes."""


@torch.no_grad()
def match(logits: Tensor, boxes: Tensor, targets: Targets) -> Pairs:
    """Match every box with one query of its picture, in every set, at the least total cost.

    The costs are computed where the predictions are and cross over once.

    Args:
        logits: (N, B, Q, K).
        boxes: (N, B, Q, 4) cx, cy, w, h.
        targets: the boxes to match; no picture has more than Q.
    """
    from scipy.optimize import linear_sum_assignment

    # The solver wants float64 with a row for each box; given anything else it copies, which takes
    # longer than to solve. Threads only get into its way.
    costs = matching_costs(logits, boxes, targets).mT.double().contiguous().cpu().numpy()
    queries = [
        linear_sum_assignment(costs[number, picture, :count])[1]
        for number in range(len(costs))
        for picture, count in enumerate(targets.counts)
    ]
    number, picture, box = torch.nonzero(targets.present().expand(len(costs), -1, -1)).unbind(1)
    query = torch.from_numpy(np.concatenate(queries)).to(logits.device)
    return Pairs(number, picture, query, box)


def matching_costs(logits: Tensor, boxes: Tensor, targets: Targets) -> Tensor:
    """(N, B, Q, G) float32: class by the focal loss's change, boxes by L1 and GIoU."""
    labels = targets.labels[None, :, None].expand(*logits.shape[:3], -1)  # (N, B, Q, G)
    score = logits.float().sigmoid()
    positive = ALPHA * (1 - score) ** GAMMA * -(score + 1e-8).log()
    negative = (1 - ALPHA) * score**GAMMA * -(1 - score + 1e-8).log()
    of_class = (positive - negative).gather(-1, labels)
    of_l1 = torch.cdist(boxes.float(), targets.boxes.expand(len(boxes), -1, -1, -1), p=1)
    corners = to_corners(boxes.float())[:, :, :, None], to_corners(targets.boxes)[None, :, None]
    _, giou = overlaps(*corners)
    return CLASS_COST * of_class + L1_COST * of_l1 - GIOU_COST * giou
