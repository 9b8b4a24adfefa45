"""Times the sampling kernel beside PyTorch, on a GPU.

Build it first: ``python -m plugin build --tests``. Inputs are as in a trained network: references
at the centres of the tokens (encoder) or random boxes (decoder), offsets normal with 3 cells. What
is timed is the operator alone: softmax, positions, sampling and sum.
"""

from __future__ import annotations

import argparse
import ctypes
import itertools
import json
import shlex
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.machine import gpu_facts

if TYPE_CHECKING:
    from tests.plugin.problems import Problem

ROOT = Path(__file__).parents[1]
_SIZES = ((608, 608), (768, 1152), (1280, 1920))
_STRIDES = (4, 8, 16, 32, 64)
_QUERIES = 900
_WARM_UP = 50
_EPILOG = """\
examples:
  python -m benchmarks.ms_deform_attn -o kernel.json
  python -m benchmarks.ms_deform_attn --dtypes fp16 --iterations 1000"""


def main() -> int:
    """Measure everything, print a table, write JSON; returns the exit code."""
    args = _parser().parse_args()
    if not args.library.is_file():
        print(
            f"there is no {args.library}; build it: python -m plugin build --tests",
            file=sys.stderr,
        )
        return 2

    import torch

    if not torch.cuda.is_available():
        print("found no NVIDIA GPU; run this on a machine that has one", file=sys.stderr)
        return 2
    rows = []
    for height, width in _SIZES:
        for call in ("encoder", "decoder"):
            for dtype in args.dtypes:
                for row in _measure(args, call, height, width, dtype):
                    print(_line(row), flush=True)
                    rows.append(row)
    if args.output is not None:
        from runtime.files import atomic_output

        result = {"machine": _machine(), "command": shlex.join(sys.orig_argv), "rows": rows}
        with atomic_output(args.output) as path:
            path.write_text(json.dumps(result, indent=2) + "\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.ms_deform_attn",
        description="Time deformable attention: our kernel beside PyTorch's grid_sample.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("-o", "--output", type=Path, metavar="JSON", help="where the figures go")
    add("--dtypes", nargs="+", choices=("fp16", "bf16", "fp32"), default=["fp16", "bf16", "fp32"])
    add(
        "--iterations",
        type=_iterations,
        default=300,
        metavar="N",
        help="timed calls of each (default: 300)",
    )
    add(
        "--library",
        type=Path,
        default=ROOT / "build" / "plugin" / "libcodetr_kernel_test.so",
        help="the kernel, as `python -m plugin build --tests` leaves it (default: %(default)s)",
    )
    return parser


def _iterations(text: str) -> int:
    number = int(text) if text.isdecimal() else 0
    if number < 2:
        raise argparse.ArgumentTypeError(f"takes a number from 2 up, got {text!r}")
    return number


def _measure(
    args: argparse.Namespace, call: str, height: int, width: int, dtype: str
) -> list[dict[str, Any]]:
    """A row for each contender."""
    import torch

    from codetr.deform_attn import ms_deform_attn

    problem = _inputs(call, height, width, dtype)
    output = problem.empty_output()
    launch = ctypes.CDLL(str(args.library)).codetr_ms_deform_attn
    struct = problem.struct(output)
    tensors = (problem.value, problem.sampling, problem.reference)
    sizes = (problem.level_sizes, problem.valid_sizes)

    def kernel() -> None:
        stream = ctypes.c_void_p(torch.cuda.current_stream().cuda_stream)
        if (error := launch(ctypes.byref(struct), stream)) != 0:
            raise RuntimeError(f"the kernel returned CUDA error {error}")

    def pytorch() -> None:
        ms_deform_attn(*tensors, *sizes, problem.heads, problem.points)

    shared = {"call": call, "height": height, "width": width, "dtype": dtype}
    return [
        {
            "kernel": "ms_deform_attn",
            "contender": name,
            **shared,
            "queries": problem.sampling.shape[1],
            "us": _time(run, args.iterations),
        }
        for name, run in (("plugin", kernel), ("pytorch-grid-sample", pytorch))
    ]


def _inputs(call: str, height: int, width: int, dtype: str) -> Problem:
    import torch

    from tests.plugin.problems import DTYPES, make_problem

    sizes = [(-(-height // stride), -(-width // stride)) for stride in _STRIDES]
    decoder = call == "decoder"
    queries = _QUERIES if decoder else None
    problem = make_problem(sizes, queries=queries, box=decoder, device="cuda")
    if not decoder:
        centres = [
            torch.cartesian_prod((torch.arange(h) + 0.5) / h, (torch.arange(w) + 0.5) / w).flip(-1)
            for h, w in sizes
        ]
        problem.reference.copy_(torch.cat(centres))
    return problem.to(DTYPES[dtype], "cuda")


def _time(run: Callable[[], None], iterations: int) -> dict[str, float]:
    """Microseconds of GPU time of one call."""
    import torch

    for _ in range(_WARM_UP):
        run()
    events = [torch.cuda.Event(enable_timing=True) for _ in range(iterations + 1)]
    torch.cuda.synchronize()
    # The GPU waits while calls queue up, or short ones would be timed with the time to launch them.
    torch.cuda._sleep(100_000_000)
    events[0].record()
    for event in events[1:]:
        run()
        event.record()
    torch.cuda.synchronize()
    times = [1000 * start.elapsed_time(end) for start, end in itertools.pairwise(events)]
    percentiles = statistics.quantiles(times, n=100, method="inclusive")
    return {f"p{p}": round(percentiles[p - 1], 2) for p in (50, 90, 99)}


def _line(row: dict[str, Any]) -> str:
    size = f"{row['height']}x{row['width']}"
    times = "  ".join(f"{name} {us:9.1f}" for name, us in row["us"].items())
    return f"{row['contender']:20} {row['call']:8} {size:10} {row['dtype']:5} us: {times}"


def _machine() -> dict[str, str]:
    import torch

    versions = {"cuda": str(torch.version.cuda), "torch": torch.__version__}
    return gpu_facts() | versions


if __name__ == "__main__":
    sys.exit(main())
