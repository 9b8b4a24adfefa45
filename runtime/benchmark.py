"""Measures how long a model takes: its kernels on the GPU, and pictures from end to end."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from runtime.backend import Model
from runtime.detector import Detector
from runtime.images import Image
from runtime.machine import describe_cpu
from runtime.preprocess import input_size, place, prepare_batch

if TYPE_CHECKING:
    from runtime.engine import Engine
    from runtime.gpu_monitor import GpuState
    from runtime.tensorrt_backend import TensorRTModel

K = TypeVar("K")
V = TypeVar("V")
Track = Callable[[Sequence[int], str], Iterable[int]]
"""Passes a sequence on, with a progress bar of that name."""

PARTS = ("preprocess", "infer", "postprocess")
"""Of a detection, in their order; where the GPU preprocesses, ``infer`` includes it."""
_SAMPLES = 10


@dataclass(frozen=True, slots=True)
class Measurement:
    """What one run of the benchmark gave."""

    machine: dict[str, Any]
    """What it was measured on."""
    row: dict[str, Any]
    """The figures, as JSON holds them."""
    gpu_times: list[float]
    """Each time of ``gpu_ms`` in the row, in milliseconds; empty without a GPU."""


def measure(
    detector: Detector,
    images: Sequence[Image],
    *,
    iterations: int,
    warm_up: int,
    cuda_graph: bool,
    track: Track,
) -> Measurement:
    """Measure a model.

    Args:
        detector: holds the model.
        images: one batch, decoded.
        iterations: how many runs of each series count.
        warm_up: how many come before them and do not count.
        cuda_graph: whether an engine may use CUDA graphs; it is then timed without them too.
        track: shows the progress.

    Raises:
        CudaError: the GPU failed.
    """
    model = detector.model
    library, version = model.backend.split()
    machine = describe_cpu() | {library: version}
    placements = [place(image, model.spec) for image in images]
    size = zip(("height", "width"), input_size(placements, model.spec), strict=True)
    row = describe_model(model, len(images)) | dict(size)
    rounds = range(warm_up + iterations)
    engine_model = tensorrt_model(model)
    if engine_model is None:
        row |= _end_to_end(detector, images, track(rounds, "End to end"), warm_up)
        return Measurement(machine, row, [])

    from runtime.gpu_monitor import gpu_monitor, summarize_states, watch

    engine = engine_model.engine
    engine.cuda_graph = cuda_graph
    states: list[GpuState] = []
    with gpu_monitor() as monitor:

        def watched(name: str) -> Iterable[int]:
            every = max(1, iterations // _SAMPLES)
            return watch(track(rounds, name), monitor, states, start=warm_up, every=every)

        for _ in range(2):  # the kernels then have something to work on, and their CUDA graph
            detect_in_parts(detector, images)
        times = _time_both_ways(engine, watched("GPU"), warm_up)
        row |= {
            "gpu_ms": summarize_times(times[engine.cuda_graph]),
            "cuda_graph": engine.cuda_graph,
            "gpu_ms_no_cuda_graph": summarize_times(times[False]),
        }
        row |= _end_to_end(detector, images, watched("End to end"), warm_up)
        machine |= monitor.facts() | summarize_states(states)
    row |= describe_engine(engine_model) | {"process_bytes": states[-1].process_bytes}
    return Measurement(machine, row, times[engine.cuda_graph])


def summarize_times(milliseconds: Sequence[float]) -> dict[str, float]:
    """Percentiles (interpolated), extremes and mean of at least one time."""
    times = np.array(milliseconds)
    p50, p90, p99 = np.percentile(times, (50, 90, 99))
    figures = {"p50": p50, "p90": p90, "p99": p99}
    figures |= {"min": times.min(), "max": times.max(), "mean": times.mean()}
    return {name: round(float(value), 4) for name, value in figures.items()}


def interleave(
    runs: Mapping[K, Callable[[], V]], rounds: Iterable[object], *, warm_up: int
) -> dict[K, list[V]]:
    """Time several contenders in turns, so that a change of clocks meets all of them.

    Args:
        runs: each runs its contender once and returns its time or times.
        rounds: one element for each time that all of them run.
        warm_up: how many of the first rounds do not count.

    Returns:
        What each contender returned.
    """
    times: dict[K, list[V]] = {key: [] for key in runs}
    for index, _ in enumerate(rounds):
        for key, run in runs.items():
            of_one = run()
            if index >= warm_up:
                times[key].append(of_one)
    return times


def time_kernels(engine: Engine) -> float:
    """Milliseconds that the GPU takes for the kernels of one run, without copies."""
    return time_stream(engine.stream, engine.compute)


def time_stream(stream: Any, enqueue: Callable[[], None]) -> float:
    """Milliseconds of GPU time from the first to the last of what is enqueued; waits for it."""
    from cuda.bindings import runtime as cudart

    from runtime.cuda import check

    start, stop = (check(cudart.cudaEventCreate()) for _ in range(2))
    check(cudart.cudaEventRecord(start, stream))
    enqueue()
    check(cudart.cudaEventRecord(stop, stream))
    check(cudart.cudaEventSynchronize(stop))
    milliseconds: float = check(cudart.cudaEventElapsedTime(start, stop))
    for event in (start, stop):
        check(cudart.cudaEventDestroy(event))
    return milliseconds


def detect_in_parts(detector: Detector, images: Sequence[Image]) -> dict[str, float]:
    """Detect in one batch as ``Detector`` does; milliseconds of wall time of each part.

    The parts are ``PARTS``; without ``preprocess`` where the GPU does that.
    """
    if not preprocesses_on_gpu(detector.model):
        return detect_in_parts_on_cpu(detector, images)
    start = time.perf_counter()
    outputs = detector.model.infer_images(images)
    inferred = time.perf_counter()
    detector.postprocess(outputs, [place(image, detector.model.spec).scale for image in images])
    return _milliseconds(PARTS[1:], start, inferred, time.perf_counter())


def detect_in_parts_on_cpu(detector: Detector, images: Sequence[Image]) -> dict[str, float]:
    """The same, preprocessed on the CPU: milliseconds of each of ``PARTS``."""
    model = detector.model
    start = time.perf_counter()
    batch = prepare_batch(images, model.spec)
    prepared = time.perf_counter()
    outputs = model.infer(batch.batch_inputs, batch.img_masks)
    inferred = time.perf_counter()
    detector.postprocess(outputs, batch.scales)
    return _milliseconds(PARTS, start, prepared, inferred, time.perf_counter())


def preprocesses_on_gpu(model: Model) -> bool:
    """Whether pictures reach the GPU as they were decoded."""
    engine_model = tensorrt_model(model)
    return engine_model is not None and engine_model.preprocesses_on_gpu


def noise_image(height: int, width: int) -> Image:
    """A picture of noise, always the same: uint8 RGB (height, width, 3)."""
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def tensorrt_model(model: Model) -> TensorRTModel | None:
    """The model, if it is an engine; where it is none, cuda-python may be missing."""
    if not model.backend.startswith("tensorrt"):
        return None
    from runtime.tensorrt_backend import TensorRTModel

    assert isinstance(model, TensorRTModel)
    return model


def describe_contender(model: Model, batch: int) -> dict[str, Any]:
    """The part of a row that says what was measured."""
    spec = model.spec
    library = model.backend.split()[0]
    name = "engine" if library.startswith("tensorrt") else library
    return {
        "contender": f"{name}-{spec.metadata.precision}",
        "model": spec.metadata.preset,
        "height": spec.height,
        "width": spec.width,
        "batch": batch,
    }


def describe_model(model: Model, batch: int) -> dict[str, Any]:
    """The contender, and all figures that only an engine has, still None."""
    figures = ("gpu_ms", "end_to_end_ms", "engine_bytes", "activation_bytes", "build_s")
    return describe_contender(model, batch) | dict.fromkeys(figures)


def describe_engine(model: TensorRTModel) -> dict[str, Any]:
    """The part of a row that says what an engine takes."""
    memory, manifest = model.engine.memory, model.manifest
    return {
        "engine_bytes": manifest["engine"]["bytes"],
        "activation_bytes": memory["activations"],
        "io_bytes": memory["inputs and outputs"],
        "staging_bytes": memory.get("staging", 0),
        "build_s": manifest["build"]["seconds"],
    }


def _time_both_ways(
    engine: Engine, rounds: Iterable[object], warm_up: int
) -> dict[bool, list[float]]:
    """GPU times by whether a CUDA graph was used; only without, if the engine uses none."""

    def run(cuda_graph: bool) -> float:
        engine.cuda_graph = cuda_graph
        return time_kernels(engine)

    runs = {False: lambda: run(False)}
    if used := engine.cuda_graph:
        runs[True] = lambda: run(True)
    times = interleave(runs, rounds, warm_up=warm_up)
    engine.cuda_graph = used
    return times


def _end_to_end(
    detector: Detector, images: Sequence[Image], rounds: Iterable[object], warm_up: int
) -> dict[str, Any]:
    """The part of a row about pictures; where the GPU preprocesses, the CPU does too, in turns."""
    runs = {"": partial(detect_in_parts, detector, images)}
    if preprocesses_on_gpu(detector.model):
        runs["cpu_preprocessing_"] = partial(detect_in_parts_on_cpu, detector, images)
    row: dict[str, Any] = {}
    for name, times in interleave(runs, rounds, warm_up=warm_up).items():
        totals = [sum(parts.values()) for parts in times]
        parts = {part: summarize_times([parts[part] for parts in times]) for part in times[0]}
        row |= {f"{name}end_to_end_ms": summarize_times(totals), f"{name}parts_ms": parts}
    return row


def _milliseconds(names: Sequence[str], *moments: float) -> dict[str, float]:
    """Of each named span between two moments, which are in seconds."""
    return dict(zip(names, (1000 * np.diff(moments)).tolist(), strict=True))
