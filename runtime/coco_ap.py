"""COCO AP of detections, by pycocotools."""

from __future__ import annotations

import contextlib
import io
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from runtime.coco_dataset import Annotation, CocoDataset
from runtime.errors import UserError

if TYPE_CHECKING:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

FIGURES = (
    *("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large"),
    *("ar1", "ar10", "ar100", "ar_small", "ar_medium", "ar_large"),
)
"""In the order of pycocotools."""

Figures = dict[str, float | None]
"""0 to 1; None where there is no object of that size, or no object at all."""


def require_pycocotools() -> None:
    """Say at once what would fail after all pictures.

    Raises:
        UserError: pycocotools is not installed.
    """
    try:
        import pycocotools.cocoeval  # noqa: F401
    except ImportError as error:
        raise UserError(
            f"AP needs pycocotools, which cannot be imported ({error}); "
            "pip install 'pycocotools>=2.0.8,<3'"
        ) from error


def average_precision(
    dataset: CocoDataset, image_ids: Sequence[int], results: Sequence[dict[str, Any]]
) -> tuple[Figures, dict[str, dict[str, Any]]]:
    """Compare detections with annotations.

    Args:
        dataset: the annotations.
        image_ids: the pictures that count.
        results: the detections, in COCO's result format.

    Returns:
        The 12 figures of COCO; and for each category's name its ``ap``, ``ap50``, how many
        ``annotations`` (without crowds) and how many ``detections`` there are.
    """
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):  # where pycocotools tells of its progress
        evaluation = COCOeval(*_indexed(dataset, image_ids, results), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    figures = dict(zip(FIGURES, map(_figure, evaluation.stats.tolist()), strict=True))
    annotations = dataset.objects_in(image_ids)
    detections = Counter(result["category_id"] for result in results)
    per_class = {
        category.name: _class_precision(evaluation, category.id)
        | {"annotations": annotations[category.id], "detections": detections[category.id]}
        for category in dataset.categories
    }
    return figures, per_class


def _indexed(
    dataset: CocoDataset, image_ids: Sequence[int], results: Sequence[dict[str, Any]]
) -> tuple[COCO, COCO]:
    """Annotations and detections as pycocotools takes them; it passes over other pictures."""
    from pycocotools.coco import COCO

    # Counted anew from 1: pycocotools takes an object of id 0 for one that nobody found, and
    # mixes up objects of equal ids.
    annotations = [
        _ground_truth(annotation) | {"id": number}
        for number, annotation in enumerate(dataset.annotations, 1)
    ]
    # What COCO.loadRes does; that one cannot load an empty list.
    detections = [
        result | {"id": number, "area": result["bbox"][2] * result["bbox"][3], "iscrowd": 0}
        for number, result in enumerate(results, 1)
    ]
    images = [{"id": image_id} for image_id in image_ids]
    categories = [{"id": category.id} for category in dataset.categories]
    indexed = []
    for entries in (annotations, detections):
        coco = COCO()
        coco.dataset = {"images": images, "categories": categories, "annotations": entries}
        coco.createIndex()
        indexed.append(coco)
    return indexed[0], indexed[1]


def _ground_truth(annotation: Annotation) -> dict[str, Any]:
    return {
        "image_id": annotation.image_id,
        "category_id": annotation.category_id,
        "bbox": list(annotation.bbox),
        "area": annotation.area,
        "iscrowd": int(annotation.is_crowd),
    }


def _class_precision(evaluation: COCOeval, category_id: int) -> dict[str, Any]:
    """AP and AP50 of one category: all sizes, 100 detections for each picture."""
    index = evaluation.params.catIds.index(category_id)
    precision = evaluation.eval["precision"][:, :, index, 0, -1]  # (IoU thresholds, recalls)
    means = precision.mean(axis=1).tolist()
    return {"ap": _figure(sum(means) / len(means)), "ap50": _figure(means[0])}


def _figure(value: float) -> float | None:
    """-1 is pycocotools' word for nothing to be found."""
    return None if value < 0 else round(value, 6)
