"""Opens the two sides of a comparison, and the graphs that show the stages of both."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import onnx as onnx_package

from runtime.errors import UserError
from trt_build.backend import BACKENDS
from trt_build.build import build_engine
from trt_build.options import BuildOptions
from trt_build.pair import Candidate
from trt_build.runners import Runner, engine_runner, onnx_runner
from trt_build.stages import ShownGraph, show_stages


@dataclass(frozen=True, slots=True)
class StageSide:
    """What shows the stages of the candidate."""

    runner: Runner
    graph: ShownGraph
    reference_graph: ShownGraph


@dataclass(frozen=True, slots=True)
class Sides:
    """All that runs for one picture."""

    reference: Runner
    """Puts out its stages too, if there is a ``stages``."""
    candidate: Runner
    stages: StageSide | None

    @contextlib.contextmanager
    def active(self) -> Iterator[None]:
        """Take the memory for runs, and give it back."""
        with contextlib.ExitStack() as stack:
            for runner in (self.reference, self.candidate):
                stack.enter_context(runner.active())
            if self.stages:
                stack.enter_context(self.stages.runner.active())
            yield


def open_sides(
    candidate: Candidate,
    reference: Path,
    *,
    timing_cache: Path | None,
    plugin_library: Path | None,
) -> Sides:
    """Load both files; a candidate that has an ``onnx`` shows its stages.

    Raises:
        UserError: a file cannot be run here, or the second engine cannot be built.
    """
    recipe = candidate.recipe
    file = engine_runner(candidate.path, recipe) if recipe else None
    if candidate.onnx is None:
        return Sides(onnx_runner(reference), file or onnx_runner(candidate.path), None)
    reference_graph = show_stages(reference, force_topk=False)
    graph = show_stages(candidate.onnx, force_topk=True)
    if recipe is None:
        runner = onnx_runner(candidate.onnx, graph.model)
    else:
        runner = _stage_engine(candidate, graph, timing_cache, plugin_library)
    return Sides(
        # One run gives it all: the reference's own choice of queries is the one to follow.
        onnx_runner(reference, reference_graph.model),
        file or onnx_runner(candidate.path),
        StageSide(runner, graph, reference_graph),
    )


def _stage_engine(
    candidate: Candidate,
    graph: ShownGraph,
    timing_cache: Path | None,
    plugin_library: Path | None,
) -> Runner:
    """Build and load an engine of the candidate's recipe that puts out its stages."""
    recipe = candidate.recipe
    assert recipe is not None
    with tempfile.TemporaryDirectory(prefix="codetr-verify-") as folder:
        onnx, engine = Path(folder, "stages.onnx"), Path(folder, "stages.engine")
        onnx_package.save(graph.model, onnx)
        built = build_engine(
            onnx,
            engine,
            backend=BACKENDS[recipe["backend"]],
            options=BuildOptions.from_json(recipe["options"]),
            timing_cache=timing_cache,
            plugin_library=plugin_library,
        ).manifest["recipe"]
        if changed := [key for key in recipe if key != "onnx_sha256" and recipe[key] != built[key]]:
            raise UserError(
                f"{candidate.path} was built with another {', '.join(changed)} than is here, so "
                "its stages cannot be looked at: build it again, or give --no-stages"
            )
        return engine_runner(engine, recipe)
