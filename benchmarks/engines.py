"""Times engines of one size side by side on this GPU, and beside them PyTorch.

The kernels alone, an engine's as one CUDA graph, between two CUDA events. Contenders take turns,
run by run, so that a change of clocks meets all of them. ``python -m runtime bench`` tells more
about one engine.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shlex
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from runtime.benchmark import (
    describe_engine,
    describe_model,
    interleave,
    summarize_times,
    time_kernels,
)
from runtime.files import atomic_output
from runtime.gpu_monitor import GpuState, gpu_monitor, summarize_states, watch
from runtime.tensorrt_backend import TensorRTModel

WARM_UP = 20
SAMPLES = 10
PYTORCH = ("pytorch-fp32", "pytorch-fp16", "torch-compile-fp16")


def load(path: Path) -> TensorRTModel:
    """An engine that has run once, on a picture of noise without padding."""
    model = TensorRTModel(path)
    spec = model.spec
    batch = spec.batch or 1
    rng = np.random.default_rng(0)
    pixels = rng.standard_normal((batch, 3, spec.height, spec.width), np.float32)
    model.infer(pixels, np.zeros((batch, spec.height, spec.width), np.float32))
    return model


def name_of(model: TensorRTModel) -> str:
    """What a row calls an engine: "engine-fp16", or "tensorrt-plain-fp16" without the plugin."""
    kind = "engine" if model.manifest["model"]["role"] == "plugin" else "tensorrt-plain"
    return f"{kind}-{model.spec.metadata.precision}"


def main() -> None:
    """Time all contenders, print a line for each, write the JSON."""
    args = parser().parse_args()
    states: list[GpuState] = []
    with contextlib.ExitStack() as stack:
        models = [stack.enter_context(load(path)) for path in args.engines]
        contenders = {name_of(model): _of_engine(model) for model in models}
        if args.weights is not None:
            contenders |= {
                name: _of_pytorch(name, models[0], args.weights) for name in args.pytorch
            }
        monitor = stack.enter_context(gpu_monitor())
        every = max(1, args.iterations // SAMPLES)
        rounds = range(WARM_UP + args.iterations)
        watched = watch(rounds, monitor, states, start=WARM_UP, every=every)
        runs = {name: contender.run for name, contender in contenders.items()}
        times = interleave(runs, watched, warm_up=WARM_UP)
        machine = monitor.facts() | summarize_states(states) | _versions(models[0])
    rows = [
        {**contenders[name].row, "contender": name, "gpu_ms": summarize_times(of_one)}
        for name, of_one in times.items()
    ]
    command = f"python -m benchmarks.engines {shlex.join(sys.argv[1:])}"
    report = {"machine": machine, "command": command, "runs": args.iterations, "rows": rows}
    for row in rows:
        print(f"{row['contender']:20} {row['gpu_ms']}")
    with atomic_output(args.json) as temporary:
        temporary.write_text(json.dumps(report, indent=1) + "\n")


class Contender(NamedTuple):
    """One of those that take turns."""

    row: dict[str, Any]
    """What is known before it is timed."""
    run: Callable[[], float]
    """Runs it once; milliseconds of GPU time."""


def _of_engine(model: TensorRTModel) -> Contender:
    row = describe_model(model, model.spec.batch or 1) | describe_engine(model)
    return Contender(row, partial(time_kernels, model.engine))


def _of_pytorch(name: str, like: TensorRTModel, weights: Path) -> Contender:
    from benchmarks import pytorch

    print(f"preparing {name}", flush=True)
    spec = like.spec
    row = {"model": spec.metadata.preset, "height": spec.height, "width": spec.width, "batch": 1}
    run = pytorch.load(name, spec.metadata.preset, weights, (spec.height, spec.width))
    return Contender(row, run)


def _versions(model: TensorRTModel) -> dict[str, str]:
    """Of what was compared."""
    found = {"tensorrt": str(model.manifest["recipe"]["backend_version"])}
    if torch := sys.modules.get("torch"):
        found["torch"] = torch.__version__
    return found


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result = argparse.ArgumentParser(
        prog="python -m benchmarks.engines",
        description=__doc__,
        epilog="example: python -m benchmarks.engines fp16.engine plain.engine --weights w.pth "
        "--json times.json",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = result.add_argument
    add("engines", type=Path, nargs="+", help="engines of one preset and size")
    add("--weights", type=Path, help="the preset's checkpoint: times PyTorch too")
    add("--pytorch", nargs="*", default=list(PYTORCH), choices=PYTORCH, help="which of it")
    add("--iterations", type=int, default=200, help="runs that count (default: %(default)s)")
    add("--json", type=Path, required=True, help="where the figures go")
    return result


if __name__ == "__main__":
    main()
