"""Losses of Co-DINO: quality focal loss of classes, L1 and GIoU of boxes.

Letters: N sets of predictions, B batch, Q queries, K classes, G boxes of a picture at most.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from codetr.training.boxes import overlaps, to_corners
from codetr.training.dense import assign_tokens
from codetr.training.matching import Pairs, match
from codetr.training.network import Outputs, Predictions
from codetr.training.targets import Targets

CLASS_WEIGHT, L1_WEIGHT, GIOU_WEIGHT = 1.0, 5.0, 2.0


def losses(outputs: Outputs, targets: Targets) -> dict[str, Tensor]:
    """Every loss by name, weighted; their sum is what training lowers.

    Names are ``class``, ``l1`` and ``giou`` after what they belong to: ``layer0`` …, ``proposals``,
    ``denoising`` (all layers together) and ``dense``. All are float32 scalars.
    """
    found: dict[str, Tensor] = {}

    matched = outputs.matched
    pairs = match(matched.logits, matched.boxes, targets)
    names = [*(f"layer{number}" for number in range(len(matched.logits) - 1)), "proposals"]
    for kind, values in pair_losses(matched, pairs, targets, targets.total).items():
        found |= {f"{name}/{kind}": value for name, value in zip(names, values, strict=True)}

    denoised = outputs.denoised
    pairs = denoising_pairs(targets, len(denoised.logits), denoised.logits.shape[2])
    copies = denoised.logits.shape[2] // (2 * targets.labels.shape[1])
    for kind, values in pair_losses(denoised, pairs, targets, copies * targets.total).items():
        found[f"denoising/{kind}"] = values.sum()

    pairs, countable = assign_tokens(outputs.encoded, targets)
    for kind, values in pair_losses(
        outputs.dense, pairs, targets, len(pairs.queries), countable
    ).items():
        found[f"dense/{kind}"] = values.sum()
    return found


def pair_losses(
    predictions: Predictions,
    pairs: Pairs,
    targets: Targets,
    normaliser: int,
    countable: Tensor | None = None,
) -> dict[str, Tensor]:
    """The three losses of every set, (N,) each.

    Args:
        predictions: of N sets.
        pairs: which of them answer for which boxes; all others are background.
        targets: the boxes.
        normaliser: what sums are divided by.
        countable: (B, Q) bool, queries whose class counts; None for all.
    """
    logits, boxes = predictions
    label = targets.labels[pairs.pictures, pairs.boxes]  # (T,)
    box = targets.boxes[pairs.pictures, pairs.boxes]  # (T, 4)
    predicted = boxes[pairs.sets, pairs.pictures, pairs.queries]
    iou, giou = overlaps(to_corners(predicted), to_corners(box))
    quality = torch.zeros_like(logits)
    quality[pairs.sets, pairs.pictures, pairs.queries, label] = iou.detach()
    of_class = quality_focal_loss(logits, quality)
    if countable is not None:
        of_class = of_class * countable[:, :, None]
    nothing = logits.new_zeros(len(logits))
    of_l1 = nothing.index_add(0, pairs.sets, (predicted - box).abs().sum(-1))
    of_giou = nothing.index_add(0, pairs.sets, 1 - giou)
    return {
        "class": CLASS_WEIGHT * of_class.sum((1, 2, 3)) / max(normaliser, 1),
        "l1": L1_WEIGHT * of_l1 / max(normaliser, 1),
        "giou": GIOU_WEIGHT * of_giou / max(normaliser, 1),
    }


def quality_focal_loss(logits: Tensor, quality: Tensor) -> Tensor:
    """Generalised focal loss (arXiv 2006.04388, beta 2): scores learn the IoU of their box.

    The focal loss without its alpha where ``quality`` is 0 or 1. Ranking by overlap is worth more
    than ranking by class alone once AP asks for an IoU of 0.9.
    """
    entropy = F.binary_cross_entropy_with_logits(logits, quality, reduction="none")
    return (quality - logits.sigmoid()).square() * entropy


def denoising_pairs(targets: Targets, sets: int, queries: int) -> Pairs:
    """Every positive of ``denoising.make_noise`` answers for the box it came from."""
    rows = targets.labels.shape[1]
    groups = queries // (2 * rows)
    shape = sets, groups, *targets.labels.shape
    number, group, picture, row = torch.nonzero(targets.present().expand(shape)).unbind(1)
    return Pairs(number, picture, group * 2 * rows + row, row)
