"""How many pictures a second an engine detects in: by batch, with one context and with two at once.

The kernels alone, as CUDA graphs: batch after batch is queued without waiting for one, in blocks
of about a fifth of a second. Blocks of all configurations take turns, so that a change of
clocks meets all of them. Two contexts are the engine loaded twice, each with its own memory,
stream and graph. Batches are the powers of two that the engine takes.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import shlex
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from benchmarks.noise import run_noise
from runtime.benchmark import (
    describe_contender,
    describe_engine,
    interleave,
    summarize_times,
)
from runtime.commands.progress import track
from runtime.errors import UserError
from runtime.files import atomic_output

if TYPE_CHECKING:
    from runtime.gpu_monitor import GpuState
    from runtime.tensorrt_backend import TensorRTModel

CONTEXTS = (1, 2)
BLOCKS = 6
WARM_UP = 1
BLOCK_MS = 200


class Load(NamedTuple):
    """What keeps the GPU busy."""

    contexts: int
    batch: int
    """Of each context."""


def measure(path: Path) -> dict[str, Any]:
    """Measure an engine; the machine and a row for each load.

    Raises:
        UserError: the engine cannot be loaded.
    """
    from runtime.gpu_monitor import gpu_monitor, summarize_states, watch
    from runtime.tensorrt_backend import TensorRTModel

    states: list[GpuState] = []
    held: dict[int, int | None] = {}
    with contextlib.ExitStack() as stack:
        models = [stack.enter_context(TensorRTModel(path))]
        smallest, largest = batch_range(models[0].manifest)
        monitor = stack.enter_context(gpu_monitor())
        for contexts in CONTEXTS:
            while len(models) < contexts:
                models.append(stack.enter_context(TensorRTModel(path)))
            run_noise(models[-1], largest)
            held[contexts] = monitor.state().process_bytes
        loads = [Load(n, batch) for n in CONTEXTS for batch in batches(smallest, largest)]
        blocks = {load: partial(_block, models[: load.contexts], load.batch) for load in loads}
        rounds = track(range(WARM_UP + BLOCKS), "Blocks")
        watched = watch(rounds, monitor, states, start=WARM_UP, every=1)
        times = interleave(blocks, watched, warm_up=WARM_UP)
        machine = monitor.facts() | summarize_states(states)
        engine = describe_engine(models[0])
    machine["tensorrt"] = str(models[0].manifest["recipe"]["backend_version"])
    rows = [
        describe_contender(models[0], load.batch)
        | describe_times(load, of_load)
        | {"built_for": [smallest, largest], "process_bytes": held[load.contexts]}
        | engine
        for load, of_load in times.items()
    ]
    return {"machine": machine, "rows": rows}


def describe_times(load: Load, milliseconds: Sequence[float]) -> dict[str, Any]:
    """The part of a row that says what was measured.

    Args:
        load: what ran.
        milliseconds: in which each of its contexts did one batch; one for each block.
    """
    times = summarize_times(milliseconds)
    rate = 1000 * load.batch * load.contexts / times["p50"]
    return {
        "contexts": load.contexts,
        "round_ms": times,
        "pictures_per_s": round(rate, 2),
    }


def batch_range(manifest: dict[str, Any]) -> tuple[int, int]:
    """Smallest and largest batch that the engine of a manifest takes."""
    (pictures,) = [tensor for tensor in manifest["io"] if tensor["name"] == "batch_inputs"]
    if pictures["profile"] is None:
        return pictures["shape"][0], pictures["shape"][0]
    return pictures["profile"]["min"][0], pictures["profile"]["max"][0]


def batches(smallest: int, largest: int) -> list[int]:
    """The powers of two in a range; its end, if there is none."""
    powers = [2**n for n in range(largest.bit_length()) if smallest <= 2**n <= largest]
    return powers or [largest]


def _block(models: Sequence[TensorRTModel], batch: int) -> float:
    """Milliseconds in which each of the models runs one batch, on average of a block."""
    for model in models:
        run_noise(model, batch)  # sets the shapes and makes the graph
    runs = math.ceil(BLOCK_MS / _queue(models, 1))
    return _queue(models, runs) / runs


def _queue(models: Sequence[TensorRTModel], runs: int) -> float:
    """Milliseconds of wall time until each model has run so many times."""
    start = time.perf_counter()
    for _ in range(runs):
        for model in models:
            model.engine.compute()
    for model in models:
        model.engine.synchronize()
    return 1000 * (time.perf_counter() - start)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print a line for each load, write the JSON; 2 on a user's mistake."""
    command_line = parser()
    args = command_line.parse_args(argv)
    try:
        with atomic_output(args.json) as temporary:
            measured = measure(args.engine)
            command = f"{command_line.prog} {shlex.join(sys.argv[1:])}"
            temporary.write_text(json.dumps({"command": command, **measured}, indent=1) + "\n")
    except UserError as error:
        print(f"{command_line.prog}: error: {error}", file=sys.stderr)
        return 2
    for row in measured["rows"]:
        print(
            f"{row['contender']} {row['height']}x{row['width']}, batch {row['batch']}, "
            f"contexts {row['contexts']}: {row['pictures_per_s']} pictures/s"
        )
    return 0


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result = argparse.ArgumentParser(
        prog="python -m benchmarks.throughput",
        description=__doc__,
        epilog="example: python -m benchmarks.throughput model.engine --json throughput.json",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    result.add_argument("engine", type=Path, help="with a fixed or a dynamic batch")
    result.add_argument("--json", type=Path, required=True, help="where the figures go")
    return result


if __name__ == "__main__":
    sys.exit(main())
