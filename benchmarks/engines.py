"""Times engines of one size side by side on this GPU, and beside them PyTorch and ONNX Runtime.

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
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.noise import run_noise
from codetr.errors import UserError as ModelError
from runtime.benchmark import (
    describe_contender,
    describe_engine,
    describe_model,
    interleave,
    summarize_times,
    time_kernels,
)
from runtime.commands.options import whole_number
from runtime.errors import UserError
from runtime.files import atomic_output
from runtime.gpu_monitor import GpuState, gpu_monitor, summarize_states, watch
from runtime.tensorrt_backend import TensorRTModel

WARM_UP = 20
SAMPLES = 10
PYTORCH = ("pytorch-fp32", "pytorch-fp16", "torch-compile-fp16")


def load(path: Path) -> TensorRTModel:
    """An engine that has run once."""
    model = TensorRTModel(path)
    run_noise(model, model.spec.batch or 1)
    return model


def name_of(model: TensorRTModel) -> str:
    """What a row calls an engine: "engine-fp16", "engine-fp16-attention", "tensorrt-plain-fp16".

    They have all of the plugin's kernels, those of attention, and none.
    """
    described = model.manifest["model"]
    precision = model.spec.metadata.precision
    if described["role"] != "plugin":
        return f"tensorrt-plain-{precision}"
    return f"engine-{precision}" + ("-attention" if described.get("kernels") == "attention" else "")


def main(argv: Sequence[str] | None = None) -> int:
    """Time all contenders, print a line for each, write the JSON; 2 on a user's mistake."""
    command_line = parser()
    try:
        args = command_line.parse_args(argv)
        with atomic_output(args.json) as temporary:
            report = {"command": f"{command_line.prog} {shlex.join(sys.argv[1:])}", **compare(args)}
            temporary.write_text(json.dumps(report, indent=1) + "\n")
    except (UserError, ModelError) as error:
        print(f"{command_line.prog}: error: {error}", file=sys.stderr)
        return 2
    for row in report["rows"]:
        print(f"{row['contender']:20} {row['gpu_ms']}")
    for name, reason in report["skipped"].items():
        print(f"{name:20} left out: {reason}")
    return 0


def compare(args: argparse.Namespace) -> dict[str, Any]:
    """Time all contenders; the machine and a row for each.

    Raises:
        UserError: an engine cannot be loaded.
    """
    states: list[GpuState] = []
    skipped = {}
    with contextlib.ExitStack() as stack:
        models = [stack.enter_context(load(path)) for path in args.engines]
        contenders = {name_of(model): _of_engine(model) for model in models}
        if args.weights is not None:
            contenders |= {
                name: _of_pytorch(name, models[0], args.weights) for name in args.pytorch
            }
        if args.onnxruntime is not None:
            try:
                contenders |= _of_onnxruntime(models[0], args.onnxruntime)
            except UserError as error:  # the others can do without it
                skipped["onnxruntime"] = str(error)
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
    return {"machine": machine, "runs": args.iterations, "skipped": skipped, "rows": rows}


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
    run = pytorch.load(name, spec.metadata.preset, weights, (spec.height, spec.width))
    return Contender(describe_contender(like, 1) | {"sampling": pytorch.sampling()}, run)


def _of_onnxruntime(like: TensorRTModel, graph: Path) -> dict[str, Contender]:
    from benchmarks import onnxruntime_cuda

    print("preparing ONNX Runtime", flush=True)
    name, run = onnxruntime_cuda.load(graph)
    return {name: Contender(describe_contender(like, 1), run)}


def _versions(model: TensorRTModel) -> dict[str, str]:
    """Of the libraries that are loaded."""
    found = {"tensorrt": str(model.manifest["recipe"]["backend_version"])}
    for name in ("torch", "onnxruntime"):
        if library := sys.modules.get(name):
            found[name] = library.__version__
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
    add("--onnxruntime", type=Path, metavar="GRAPH", help="their .ref.onnx: times ONNX Runtime too")
    add(
        "--iterations",
        type=whole_number("--iterations", 1),
        default=200,
        help="runs that count (default: %(default)s)",
    )
    add("--json", type=Path, required=True, help="where the figures go")
    return result


if __name__ == "__main__":
    sys.exit(main())
