"""Judges a model file by a COCO data set."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any

import numpy as np

from runtime.coco_ap import Figures, average_precision
from runtime.coco_dataset import CocoDataset, Picture, some
from runtime.detections import Detections
from runtime.detector import Detector
from runtime.errors import UserError
from runtime.images import Image
from runtime.streaming import detect_in_each, read_pictures

Track = Callable[[Sequence[Picture], str], Iterable[Picture]]
"""Passes pictures on, with a progress bar of that name."""


@dataclass(slots=True)
class Findings:
    """What a model found in the pictures of a data set."""

    results: list[dict[str, Any]] = field(default_factory=list)
    """The detections in COCO's result format, with the data set's ids."""
    image_ids: list[int] = field(default_factory=list)
    """Of the pictures it looked at."""
    seconds: float = 0.0
    """From the first picture's decoding to the last one's detections."""
    unreadable: list[str] = field(default_factory=list)
    """Why pictures were left out, one line each."""
    other_size: list[str] = field(default_factory=list)
    """Pictures of another size than the data set states."""
    not_finite: list[str] = field(default_factory=list)
    """Pictures for which the model put out NaN or infinity."""
    without_category: int = 0
    """Detections of classes that the data set does not have."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """How well a model did."""

    figures: Figures
    """The 12 figures of COCO, see ``runtime.coco_ap.FIGURES``."""
    per_class: dict[str, dict[str, Any]]
    """By category name: ``ap``, ``ap50``, ``annotations``, ``detections``."""
    findings: Findings
    warnings: list[str]
    """What a reader of the figures has to know."""


def evaluate(
    detector: Detector, dataset: CocoDataset, *, score_threshold: float, track: Track
) -> Evaluation:
    """Detect in all pictures and compare with the annotations.

    Categories that the model does not know are left out, with a warning: COCO's mean would
    count each of them as 0, and say more of the file than of the model.

    Args:
        detector: holds the model.
        dataset: the pictures, and what is in them.
        score_threshold: detections with a lower score do not count.
        track: shows the progress.

    Raises:
        UserError: the model knows no category, or no picture with annotations can be read.
    """
    judged = dataset.for_classes(detector.classes)
    findings = find_objects(detector, judged, score_threshold=score_threshold, track=track)
    if not judged.objects_in(findings.image_ids):
        raise UserError(
            f"no picture with annotations could be read, {len(findings.unreadable)} of "
            f"{len(dataset.pictures)} failed, the first one: {findings.unreadable[0]}"
        )
    figures, per_class = average_precision(judged, findings.image_ids, findings.results)
    warnings = [
        *_warnings_of_categories(dataset, judged, detector.classes, findings.without_category),
        *_warnings_of_findings(findings, figures),
    ]
    return Evaluation(figures, per_class, findings, warnings)


def find_objects(
    detector: Detector, dataset: CocoDataset, *, score_threshold: float, track: Track
) -> Findings:
    """Detect in all pictures of a data set; see ``evaluate``."""
    id_of = {category.name: category.id for category in dataset.categories}
    has_category = np.array([name in id_of for name in detector.classes])
    findings = Findings()
    start = time.perf_counter()
    pictures = _readable(track(dataset.pictures, "Evaluating"), findings)
    for picture, _, detections in detect_in_each(detector, pictures):
        findings.image_ids.append(picture.id)
        counted = _finite(detections, picture, findings).above(score_threshold)
        known = counted.select(has_category[counted.labels])
        findings.without_category += len(counted) - len(known)
        for result in known.to_coco(picture.id, first_id=len(findings.results) + 1):
            name = detector.classes[result["category_id"] - 1]  # there ids are label + 1
            findings.results.append(result | {"category_id": id_of[name]})
    findings.seconds = time.perf_counter() - start
    return findings


def _readable(pictures: Iterable[Picture], findings: Findings) -> Iterator[tuple[Picture, Image]]:
    """Pictures as they are decoded; what is wrong with one is noted in ``findings``."""
    for picture, image in read_pictures(pictures, attrgetter("path")):
        if isinstance(image, UserError):
            findings.unreadable.append(str(image))
            continue
        height, width, _ = image.shape
        if picture.size not in (None, (width, height)):
            findings.other_size.append(picture.path.name)
        yield picture, image


def _finite(detections: Detections, picture: Picture, findings: Findings) -> Detections:
    finite = np.isfinite(detections.boxes).all(axis=1) & np.isfinite(detections.scores)
    if finite.all():
        return detections
    findings.not_finite.append(picture.path.name)
    return detections.select(finite)


def _warnings_of_categories(
    dataset: CocoDataset, judged: CocoDataset, classes: Sequence[str], without_category: int
) -> Iterator[str]:
    if unknown := [c.name for c in dataset.categories if c not in judged.categories]:
        lost = len(dataset.annotations) - len(judged.annotations)
        yield (
            f"the model does not know {len(unknown)} of {len(dataset.categories)} categories: "
            f"{some(unknown)}; the figures leave them and their {lost} annotations out"
        )
    names = {category.name for category in dataset.categories}
    if absent := [name for name in classes if name not in names]:
        yield (
            f"{len(absent)} of the model's {len(classes)} classes are no category of "
            f"{dataset.path}: {some(absent)}; {without_category} detections of them do not count"
        )
    if empty := sum(not all(annotation.bbox[2:]) for annotation in judged.annotations):
        yield f"{empty} annotations have an empty box: no detection can match it"


def _warnings_of_findings(findings: Findings, figures: Figures) -> Iterator[str]:
    if findings.unreadable:
        pictures = len(findings.unreadable) + len(findings.image_ids)
        yield (
            f"{len(findings.unreadable)} of {pictures} pictures could not be read; "
            "the figures leave them out"
        )
    if other := findings.other_size:
        yield (
            f"{len(other)} pictures have another size than the annotations state: "
            f"{some(other)}; boxes may lie elsewhere in them"
        )
    if wrong := findings.not_finite:
        yield (
            f"the model put out NaN or infinity for {len(wrong)} pictures: {some(wrong)}; "
            "such detections do not count"
        )
    if not findings.results:
        yield "the model detected nothing that counts, so AP is 0"
    elif not figures["ap"]:
        yield (
            f"AP is 0: none of {len(findings.results)} detections lies on an object of its "
            "class; do the annotations belong to these pictures, and to the model's classes?"
        )
