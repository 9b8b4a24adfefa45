"""Shows an evaluation to people, and describes it for machines."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from runtime.backend import Model
from runtime.benchmark import describe_contender
from runtime.coco_ap import FIGURES
from runtime.coco_dataset import CocoDataset
from runtime.detector import Detector
from runtime.evaluation import Evaluation
from runtime.files import sha256_of
from runtime.machine import describe_cpu

_MEANINGS = (
    ("AP", "IoU 0.50 to 0.95"),
    ("AP50", "IoU 0.50"),
    ("AP75", "IoU 0.75"),
    ("AP small", "objects up to 32 x 32 pixels"),
    ("AP medium", "up to 96 x 96"),
    ("AP large", "larger"),
    ("AR 1", "1 detection per picture and class"),
    ("AR 10", "10 detections"),
    ("AR 100", "100 detections"),
    ("AR small", "objects up to 32 x 32 pixels"),
    ("AR medium", "up to 96 x 96"),
    ("AR large", "larger"),
)
"""What to call each of ``FIGURES``."""


def describe_machine(model: Model) -> dict[str, Any]:
    """What the model runs on: processor, library, and for engines the GPU."""
    library, version = model.backend.split()
    machine = describe_cpu() | {library: version}
    if library.startswith("tensorrt"):
        from runtime.gpu_monitor import gpu_monitor

        with gpu_monitor() as monitor:
            machine |= monitor.facts()
    return machine


def accuracy_row(
    evaluation: Evaluation,
    dataset: CocoDataset,
    detector: Detector,
    *,
    paths: Sequence[Path],
    nms: str,
    score_threshold: float,
) -> dict[str, Any]:
    """The figures as JSON holds them.

    Args:
        evaluation: what was found.
        dataset: in what.
        detector: by what.
        paths: of its model, in each size.
        nms: mode of suppression.
        score_threshold: detections with a lower score did not count.
    """
    findings = evaluation.findings
    annotations = sum(figures["annotations"] for figures in evaluation.per_class.values())
    return (
        describe_contender(detector.model, detector.batch)
        | {"sizes": [[model.spec.height, model.spec.width] for model in detector.models]}
        | {"dataset": dataset.path.stem, "images": len(findings.image_ids)}
        | evaluation.figures
        | {
            "per_class": evaluation.per_class,
            "annotations": annotations,
            "detections": len(findings.results),
            "nms": nms,
            "score_threshold": score_threshold,
            "seconds": round(findings.seconds, 3),
            "pictures_per_s": round(len(findings.image_ids) / findings.seconds, 2),
            "model_sha256": " ".join(map(sha256_of, paths)),
            "annotations_sha256": sha256_of(dataset.path),
            "warnings": evaluation.warnings,
        }
    )


def print_evaluation(row: dict[str, Any]) -> None:
    """Print a table of the classes, one of the figures, and what they were made of."""
    console = Console(highlight=False)
    console.print(_class_table(row["per_class"]))
    console.print(_figure_table(row))
    sizes = " and ".join(f"{height}x{width}" for height, width in row["sizes"])
    # Lines, not the table's title: that would be wrapped to the table's width.
    console.print(
        f"{row['model']} {row['contender']}, {sizes}, batch {row['batch']}, "
        f"NMS {row['nms']}, scores from {row['score_threshold']:g}; {row['dataset']}: "
        f"{row['annotations']} objects in {row['images']} pictures, {row['detections']} "
        f"detections in {row['seconds']:.1f} s ({row['pictures_per_s']:.1f} pictures/s)",
        soft_wrap=True,
    )


def _class_table(per_class: dict[str, dict[str, Any]]) -> Table:
    table = Table("class")
    for column in ("AP", "AP50", "objects", "detections"):
        table.add_column(column, justify="right")
    for name, figures in per_class.items():
        counts = (str(figures[key]) for key in ("annotations", "detections"))
        table.add_row(escape(name), _shown(figures["ap"]), _shown(figures["ap50"]), *counts)
    return table


def _figure_table(row: dict[str, Any]) -> Table:
    table = Table("", "")
    table.add_column("0 to 1", justify="right")
    for key, (name, meaning) in zip(FIGURES, _MEANINGS, strict=True):
        table.add_row(name, meaning, _shown(row[key]))
    return table


def _shown(figure: float | None) -> str:
    return "-" if figure is None else f"{figure:.3f}"
