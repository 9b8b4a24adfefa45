"""Where an engine's time goes: every layer by part of the model and kind of kernel.

Beside the time stands the work: operations of the matrix products, and bytes, every tensor once.
Against what the chip could do, that says which limit a group of layers is near, or that it is near
none.
"""

from __future__ import annotations

import re
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import prod
from typing import Any, NamedTuple

from runtime.benchmark import Track, detect_in_parts, tensorrt_model
from runtime.detector import Detector
from runtime.errors import UserError
from runtime.images import Image
from runtime.layers import Layer

RUNS = 30
WARM_UP = 5
KINDS = ("products", "attention", "plugin", "norm", "GELU", "top-k", "copies", "elementwise")
"""In the order of tables and plots."""
NO_PART = "other"
"""Layers of no ONNX node: changes of layout between parts, mostly."""

_WINDOW_ATTENTION = "CoDetrWindowAttention"
_PLUGIN_KINDS = {
    **dict.fromkeys(
        ("CoDetrGroupNorm", "CoDetrLayerNorm", "CoDetrAddLayerNorm", "CoDetrMergeLayerNorm"), "norm"
    ),
    "CoDetrLinear": "products",  # and CoDetrLinearAdd
}
_PRODUCTS = re.compile("gemm|conv|fprop", re.IGNORECASE)
# The compiler calls its kernels after what they compute: __myl_AddDivCasErfCasAddMulMul_…
_GENERATED = re.compile(r"__myl_((?:[A-Z][a-z]{2})+)")
_MOVES = {"Res", "Tra", "Sli", "Con", "Mov", "Rep", "Cas"}
_FP16_PER_CLOCK = {
    **{"7.5": 1024, "8.0": 2048, "8.6": 1024, "8.9": 1024},
    **{"9.0": 4096, "10.0": 8192, "12.0": 1024},
}
"""Dense fp16 operations of one SM's tensor cores in a clock, by compute capability (NVIDIA's
architecture papers); a multiplication with an addition counts as two."""


@dataclass(frozen=True, slots=True)
class LayerProfile:
    """One layer with its time and work."""

    name: str
    part: str
    """Of the model: ``backbone``."""
    kind: str
    """Of ``KINDS``."""
    ms: float
    flops: int
    nbytes: int


class Peaks(NamedTuple):
    """What the chip does at most, at its highest clocks."""

    tflops: float | None
    """Dense fp16; None for a chip that is not known."""
    gb_per_s: float


@dataclass(frozen=True, slots=True)
class Profile:
    """All layers in the order of the engine."""

    layers: list[LayerProfile]
    peaks: Peaks

    def as_json(self) -> dict[str, Any]:
        """What ``--json`` holds."""
        return {"peaks": self.peaks._asdict(), "layers": [asdict(layer) for layer in self.layers]}


def profile_layers(detector: Detector, images: Sequence[Image], track: Track) -> Profile:
    """Time every layer of an engine, without CUDA graph; the median of ``RUNS``.

    Args:
        detector: holds the engine, built with detailed profiling verbosity.
        images: one batch, decoded.
        track: shows the progress.

    Raises:
        UserError: no engine, or one that does not tell of its layers.
        CudaError: the GPU failed.
    """
    model = tensorrt_model(detector.model)
    entries = model.engine.inspect_layers() if model else []
    if not model or not entries:
        raise UserError(
            "--profile takes an engine that tells of its layers; build one with "
            "--profiling-verbosity detailed, the default"
        )
    detect_in_parts(detector, images)  # the kernels then have something to work on
    times = [model.engine.time_layers() for _ in track(range(WARM_UP + RUNS), "Layers")][WARM_UP:]
    layers = [Layer.from_inspector(entry) for entry in entries]
    timed = [layer for layer in layers if layer.name in times[0]]  # constants take no time
    medians = [round(statistics.median(run[layer.name] for run in times), 4) for layer in timed]
    return Profile(list(map(describe, timed, medians)), current_peaks())


def describe(layer: Layer, ms: float) -> LayerProfile:
    """Say what a layer belongs to and does."""
    kind = kind_of(layer)
    flops = count_flops(layer, kind)
    return LayerProfile(layer.name, part_of(layer), kind, ms, flops, layer.nbytes)


def part_of(layer: Layer) -> str:
    """The module at the root that most of its ONNX nodes belong to."""
    roots = Counter(re.split("[./]", node)[0] for node in layer.onnx_nodes)
    return roots.most_common(1)[0][0] if roots else NO_PART


def kind_of(layer: Layer) -> str:
    """One of ``KINDS``."""
    if "_mha" in layer.name or _attends_windows(layer):
        return "attention"
    if layer.kind.startswith("Plugin"):
        kinds = (kind for op, kind in _PLUGIN_KINDS.items() if op in layer.name)
        return next(kinds, "plugin")
    if _PRODUCTS.search(layer.kind) or _PRODUCTS.search(layer.tactic):
        return "products"
    generated = _GENERATED.match(layer.name)
    steps = set(re.findall("...", generated[1])) if generated else set()
    for step, kind in (("Top", "top-k"), ("Erf", "GELU"), ("Mea", "norm"), ("Sqr", "norm")):
        if step in steps:
            return kind
    moves = layer.kind == "Reformat" or (steps and steps <= _MOVES)
    return "copies" if moves else "elementwise"


def count_flops(layer: Layer, kind: str) -> int:
    """Operations of the matrix products of a layer of this kind; a multiply-add counts as two.

    0 where there is none, or none that its shapes tell of.
    """
    out = layer.outputs[0].shape if layer.outputs else ()
    if kind not in ("attention", "products") or not out:
        return 0
    shapes = [tensor.shape for tensor in layer.inputs]
    if kind == "attention":
        # Inputs (B, T, D), (B, D, S), …; outputs (B, T, D). The plugin's third input is (M, N, N),
        # of N keys, and its output (B, H, W, C).
        return 4 * prod(out) * shapes[2 if _attends_windows(layer) else 1][-1]
    if layer.kernel:
        return 2 * prod(out) * prod(layer.kernel) * shapes[0][1] // layer.groups
    return 2 * prod(out) * _inner_size(shapes, out[-1])


def current_peaks() -> Peaks:
    """The limits of the GPU that this thread uses."""
    from runtime.cuda import current_gpu, gpu_attribute

    sms, sm_khz = gpu_attribute("MultiProcessorCount"), gpu_attribute("ClockRate")
    memory_khz, bus_bits = gpu_attribute("MemoryClockRate"), gpu_attribute("GlobalMemoryBusWidth")
    per_clock = _FP16_PER_CLOCK.get(current_gpu().compute_capability)
    return Peaks(
        tflops=sms * sm_khz * per_clock / 1e9 if per_clock else None,
        gb_per_s=2 * memory_khz * bus_bits / 8 / 1e6,  # two transfers in a clock
    )


def _attends_windows(layer: Layer) -> bool:
    return layer.kind.startswith("Plugin") and _WINDOW_ATTENTION in layer.name


def _inner_size(shapes: Sequence[tuple[int, ...]], columns: int) -> int:
    """K of (…, M, K) times (…, K, N) or its transpose, for an output of N columns; 0: no such."""
    for weights in shapes:
        if len(weights) < 2 or columns not in weights[-2:]:
            continue
        inner = weights[-2] * weights[-1] // columns
        if any(other[-1] == inner for other in shapes if other is not weights and other):
            return inner
    return 0
