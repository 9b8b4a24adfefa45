"""What the benchmarks of single kernels have in common: command line, timing, table, JSON."""

from __future__ import annotations

import argparse
import ctypes
import itertools
import json
import shlex
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.machine import gpu_facts

ROOT = Path(__file__).parents[1]
SIZES = ((608, 608), (768, 1152), (1280, 1920))
"""Height and width of the inputs."""
_WARM_UP = 50

Measure = Callable[[argparse.Namespace], Iterator[dict[str, Any]]]


def run(module: str, description: str, dtypes: Sequence[str], measure: Measure) -> int:
    """Measure everything, print a table, write JSON; returns the exit code.

    Args:
        module: of ``benchmarks``, the one that is run.
        description: for its help.
        dtypes: those that its kernel has.
        measure: gives the rows of the table; from the arguments it needs ``library``, ``dtypes``
            and ``iterations``.
    """
    args = _parser(module, description, dtypes).parse_args()
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
    for row in measure(args):
        print(_line(row), flush=True)
        rows.append(row)
    if args.output is not None:
        from runtime.files import atomic_output

        result = {"machine": _machine(), "command": shlex.join(sys.orig_argv), "rows": rows}
        with atomic_output(args.output) as path:
            path.write_text(json.dumps(result, indent=2) + "\n")
    return 0


def launcher(args: argparse.Namespace, function: str, problem: Any) -> Callable[[], None]:
    """Queues the kernel on PyTorch's stream; ``problem`` has its tensors and sizes."""
    import torch

    launch = getattr(ctypes.CDLL(str(args.library)), function)
    output = problem.empty_output()

    def kernel() -> None:
        stream = ctypes.c_void_p(torch.cuda.current_stream().cuda_stream)
        if (error := launch(ctypes.byref(problem.struct(output)), stream)) != 0:
            raise RuntimeError(f"the kernel returned CUDA error {error}")

    return kernel


def time_calls(run: Callable[[], Any], iterations: int) -> dict[str, float]:
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


def _parser(module: str, description: str, dtypes: Sequence[str]) -> argparse.ArgumentParser:
    prog = f"python -m benchmarks.{module}"
    examples = (f"{prog} -o kernel.json", f"{prog} --dtypes fp16 --iterations 1000")
    parser = argparse.ArgumentParser(
        prog=prog,
        description=description,
        epilog="\n  ".join(("examples:", *examples)),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("-o", "--output", type=Path, metavar="JSON", help="where the figures go")
    add("--dtypes", nargs="+", choices=dtypes, default=list(dtypes))
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
        help="the kernels, as `python -m plugin build --tests` leaves them (default: %(default)s)",
    )
    return parser


def _iterations(text: str) -> int:
    number = int(text) if text.isdecimal() else 0
    if number < 2:
        raise argparse.ArgumentTypeError(f"takes a number from 2 up, got {text!r}")
    return number


def _line(row: dict[str, Any]) -> str:
    size = f"{row['height']}x{row['width']}"
    times = "  ".join(f"{name} {us:9.1f}" for name, us in row["us"].items())
    return f"{row['contender']:20} {row['call']:16} {size:10} {row['dtype']:5} us: {times}"


def _machine() -> dict[str, str]:
    import torch

    versions = {"cuda": str(torch.version.cuda), "torch": torch.__version__}
    return gpu_facts() | versions
