"""Verifies an engine or ONNX file against the reference graph, which runs in ONNX Runtime.

Twice: the very file end to end, by its detections; and stage by stage, in a second engine of the
same recipe with the stages as outputs, which is told the reference's choice of queries.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from runtime.backend import RawOutputs
from runtime.images import read_image
from runtime.preprocess import prepare_batch
from runtime.sources import picture_files
from trt_build.measure import LIMITS, DetectionErrors, StageError, detection_errors, stage_error
from trt_build.pair import read_candidate, read_reference
from trt_build.pictures import generated_pictures
from trt_build.progress import spinner
from trt_build.runners import Arrays
from trt_build.sides import Sides, open_sides


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """What was found."""

    candidate: str
    reference: str
    precision: str
    """Of the candidate."""
    pictures: tuple[str, ...]
    generated: bool
    """The pictures are not real ones."""
    detections: DetectionErrors
    """Of the file as it is."""
    min_agreement: float
    stages: tuple[StageError, ...]
    """With the reference's queries, in the order of computation; empty if not looked at."""
    same_queries: DetectionErrors | None
    """The detections with the reference's queries."""

    @property
    def limit(self) -> float:
        """Largest relative error of a stage."""
        return LIMITS[self.precision]

    def failures(self) -> list[str]:
        """What is wrong, what is nearest to its cause first; empty if the candidate passed."""
        found = []
        wrong = [stage for stage in self.stages if not stage.within(self.limit)]
        if wrong:
            first = wrong[0]
            what = (
                f"has a relative error of {first.relative_error:.1e}, above {self.limit:g}"
                if first.finite
                else "has NaN or infinities"
            )
            found.append(f"{first.name} {what} (the first of {len(wrong)} wrong stages)")
        if names := self.detections.not_finite:
            found.append(f"NaN or infinities in {', '.join(names)}")
        if not self.detections.agreement >= self.min_agreement:
            found.append(
                f"{self.detections.agreement:.2%} of the detections agree, less than "
                f"{self.min_agreement:.2%}"
            )
        return found

    def to_json(self) -> dict[str, Any]:
        """All of it, with the limit and the verdict; null for NaN and infinities."""
        failures = self.failures()
        found = {"passed": not failures, "failures": failures, "limit": self.limit, **asdict(self)}
        cleaned: dict[str, Any] = _without_nan(found)
        return cleaned


def verify(
    path: Path,
    reference: Path,
    *,
    onnx: Path | None = None,
    images: Sequence[Path] = (),
    with_stages: bool = True,
    min_agreement: float = 0.99,
    timing_cache: Path | None = None,
    plugin_library: Path | None = None,
) -> Verification:
    """Compare a file with its reference.

    Args:
        path: an engine with its manifest, or an ONNX in plain operators (another precision, say).
        reference: ``….ref.onnx`` of the same weights and size.
        onnx: what the engine was built from, if that is not beside it any more.
        images: pictures and folders of pictures; none: two generated ones.
        with_stages: look at the stages too, for which an engine is built once more.
        min_agreement: share of the detections, 0 to 1, that has to agree.
        timing_cache: for that build, see ``trt_build.build.build_engine``.
        plugin_library: for that build, see ``trt_build.build.build_engine``.

    Raises:
        UserError: a file cannot be used, or the two do not belong together.
    """
    candidate = read_candidate(path, onnx, with_stages=with_stages)
    spec = read_reference(reference, candidate)
    given = {str(file): read_image(file) for file in picture_files(images)}
    pictures = given or generated_pictures(spec.height, spec.width)
    sides = open_sides(
        candidate, reference, timing_cache=timing_cache, plugin_library=plugin_library
    )
    rows = spec.batch or candidate.least_batch
    spec = replace(spec, batch=rows)
    comparison = _Comparison(sides)
    with spinner(f"comparing with {reference.name}") as on_phase, sides.active():
        for start in range(0, len(pictures), rows):
            names = list(pictures)[start : start + rows]
            on_phase(", ".join(names))
            batch = prepare_batch([pictures[name] for name in names], spec)
            feeds = {"batch_inputs": batch.batch_inputs}
            if spec.has_mask:
                feeds["img_masks"] = batch.img_masks
            comparison.add(feeds, len(names))
    return Verification(
        candidate=str(path),
        reference=str(reference),
        precision=candidate.model["precision"],
        pictures=tuple(pictures),
        generated=not given,
        detections=detection_errors(comparison.found, comparison.wanted),
        min_agreement=min_agreement,
        stages=tuple(comparison.stages.values()),
        same_queries=detection_errors(comparison.found_with_queries, comparison.wanted)
        if sides.stages
        else None,
    )


@dataclass(slots=True)
class _Comparison:
    """Runs batch after batch on all sides, and keeps what came out."""

    sides: Sides
    found: list[RawOutputs] = field(default_factory=list)
    wanted: list[RawOutputs] = field(default_factory=list)
    found_with_queries: list[RawOutputs] = field(default_factory=list)
    stages: dict[str, StageError] = field(default_factory=dict)
    """The worst of every stage so far."""

    def add(self, feeds: Arrays, count: int) -> None:
        """Compare one batch, of which the first ``count`` rows are pictures."""
        reference = self.sides.reference.infer(feeds)
        self.wanted.append(_outputs(reference, count))
        self.found.append(_outputs(self.sides.candidate.infer(feeds), count))
        if side := self.sides.stages:
            queries = reference[side.reference_graph.topk]
            arrays = side.runner.infer({**feeds, side.graph.topk: queries})
            self.found_with_queries.append(_outputs(arrays, count))
            for name, output in side.graph.outputs.items():
                wanted = reference[side.reference_graph.outputs[name]]
                error = stage_error(name, arrays[output][:count], wanted[:count])
                self.stages[name] = error.worse(self.stages.get(name, error))


def _outputs(arrays: Arrays, count: int) -> RawOutputs:
    """A copy of the detections of the first ``count`` rows: runners reuse their memory."""
    return RawOutputs(*(arrays[name][:count].copy() for name in RawOutputs._fields))


def _without_nan(value: Any) -> Any:
    """JSON has no NaN."""
    match value:
        case dict():
            return {key: _without_nan(inside) for key, inside in value.items()}
        case list() | tuple():
            return [_without_nan(inside) for inside in value]
        case float() if not math.isfinite(value):
            return None
    return value
