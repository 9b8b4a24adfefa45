"""COCO AP of a detector in training, on held-out pictures."""

from __future__ import annotations

import contextlib
import io
import random
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from codetr.model import CoDino
from codetr.training.dataset import SIDES
from codetr.training.pictures import Batch
from codetr.training.plan import random_sizes
from codetr.training.trainer import MakeBatch

PICTURES, BATCH = 100, 10


def held_out_batches(make_batch: MakeBatch, device: torch.device) -> list[Batch]:
    """The same pictures of digits nobody trained with, up to 640 pixels, every time."""
    chance = random.Random(0)
    batches = []
    for seed in range(PICTURES // BATCH):
        limit = chance.randrange(SIDES[0], SIDES[1] + 1, 32)
        sizes = random_sizes(chance, BATCH, (limit, limit))
        batches.append(
            make_batch("test", seed=seed, sizes=sizes, padded=(limit, limit), device=device)
        )
    return batches


@torch.no_grad()
def average_precision(
    model: CoDino, batches: list[Batch], normalise: Callable[[Batch], Tensor]
) -> dict[str, float]:
    """COCO's ``ap``, ``ap50`` and ``ap75`` of the model in evaluation mode, without NMS.

    Args:
        model: in evaluation mode, float32.
        batches: pictures and what is in them.
        normalise: from a batch to what the model takes.
    """
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    truth: list[dict[str, Any]] = []
    found: list[dict[str, Any]] = []
    for number, batch in enumerate(batches):
        boxes, scores, labels = model(normalise(batch), batch.masks)
        for index in range(len(batch.images)):
            image = number * len(batch.images) + index + 1
            truth += _records(image, batch.boxes[index], batch.labels[index])
            detected = _records(image, boxes[index], labels[index])
            values = scores[index].tolist()
            found += [box | {"score": s} for box, s in zip(detected, values, strict=True)]
    coco = COCO()
    coco.dataset = {
        "images": [{"id": image} for image in sorted({record["image_id"] for record in found})],
        "categories": [{"id": label} for label in range(model.config.num_classes)],
        "annotations": [{**record, "id": i, "iscrowd": 0} for i, record in enumerate(truth, 1)],
    }
    with contextlib.redirect_stdout(io.StringIO()):
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(found), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    names = ("ap", "ap50", "ap75")
    return {name: float(value) for name, value in zip(names, evaluation.stats, strict=False)}


def _records(image: int, boxes: Tensor, labels: Tensor) -> list[dict[str, Any]]:
    low, high = boxes.split(2, dim=-1)
    rows = torch.cat((low, high - low), dim=-1).tolist()
    return [
        {"image_id": image, "category_id": label, "bbox": row, "area": row[2] * row[3]}
        for row, label in zip(rows, labels.tolist(), strict=True)
    ]
