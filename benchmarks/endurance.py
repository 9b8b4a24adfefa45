"""Uses one model file for long: many inferences, many contexts at once, many openings.

Every result is compared to the last bit with the first one for the same picture. The memory of the
process and of the GPU has to stay flat: the median of the last tenth of the samples is compared
with that of the first tenth after the warm-up. The JSON is written anew after each of the three
parts; exit code 1 if results differ or have NaN, or memory grew.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shlex
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.bits import has_nan, same_bits
from benchmarks.held_memory import LIMITS, SAMPLES, Memory, megabytes
from benchmarks.machine import machine_facts
from runtime.backend import Model, ModelSpec, needs_gpu, open_model
from runtime.commands.options import check_output, whole_number
from runtime.errors import UserError
from runtime.files import atomic_output
from runtime.images import Image
from runtime.stopping import explain, run_stoppable
from trt_build.pictures import generated_pictures
from trt_build.requirements import require_writable

PROG = "python -m benchmarks.endurance"
WARM_UP = 200
"""Inferences before the first sample of memory; a tenth of them all, if that is less."""
PER_THREAD = 200
OPENINGS_PER_SAMPLE = 10
SHOWN = 10

Row = dict[str, Any]
Outputs = Sequence[NDArray[Any]]
IsOver = Callable[[], bool]
"""Whether the time is up."""


class Answers:
    """Results of pictures that take turns, each compared with the first one for its picture."""

    def __init__(self, pictures: Sequence[Image], first: Mapping[int, Outputs]) -> None:
        """Ask nothing yet.

        Args:
            pictures: what is detected in.
            first: results that are known, by the index of the picture; others are learnt.
        """
        self._pictures, self._first = pictures, dict(first)
        self.done = 0
        self.different: list[int] = []
        self.nan: list[int] = []

    def ask(self, model: Model) -> None:
        """Run the next picture."""
        index = self.done % len(self._pictures)
        outputs: Outputs = model.infer_images([self._pictures[index]])
        first = self._first.setdefault(index, outputs)
        if not all(same_bits(*arrays) for arrays in zip(outputs, first, strict=True)):
            self.different.append(self.done)
        if any(has_nan(array) for array in outputs):
            self.nan.append(self.done)
        self.done += 1

    def to_json(self) -> Row:
        """How many there were, how many were wrong, and which of them, the first few."""
        return {
            "done": self.done,
            "different": len(self.different),
            "first_different": self.different[:SHOWN],
            "nan": len(self.nan),
            "first_nan": self.nan[:SHOWN],
        }


def inferences(path: Path, count: int, is_over: IsOver) -> Row:
    """One model, one inference after the other."""
    memory = Memory(path)
    warm_up = min(WARM_UP, count // 10)
    every = max(1, (count - warm_up) // SAMPLES)
    with contextlib.closing(open_model(path)) as model:
        answers = Answers(pictures_for(model.spec), {})
        while answers.done < count and not is_over():
            answers.ask(model)
            if answers.done > warm_up and (answers.done - warm_up) % every == 0:
                memory.sample(answers.done)
    return {"asked": count, **answers.to_json(), **memory.to_json()}


def threads(path: Path, count: int, is_over: IsOver) -> Row:
    """Threads that open the file each for itself, beside what a single one got before."""
    with contextlib.closing(open_model(path)) as model:
        pictures = pictures_for(model.spec)
        first = {i: model.infer_images([picture]) for i, picture in enumerate(pictures)}
    stopped = threading.Event()

    def work(_thread: int) -> Answers:
        answers = Answers(pictures, first)
        with contextlib.closing(open_model(path)) as model:
            while answers.done < PER_THREAD and not (is_over() or stopped.is_set()):
                answers.ask(model)
        return answers

    with ThreadPoolExecutor(count) as pool:
        try:
            found = [answers.to_json() for answers in pool.map(work, range(count))]
        finally:
            stopped.set()  # after Ctrl-C the others need not go on
    sums = {key: sum(one[key] for one in found) for key in ("done", "different", "nan")}
    return {"asked": count * PER_THREAD, **sums, "threads": found}


def openings(path: Path, count: int, is_over: IsOver) -> Row:
    """Open the file, run it once and close it, again and again."""
    memory = Memory(path)
    with contextlib.closing(open_model(path)) as model:
        answers = Answers(pictures_for(model.spec), {})
    while answers.done < count and not is_over():
        with contextlib.closing(open_model(path)) as model:
            answers.ask(model)
        if answers.done % OPENINGS_PER_SAMPLE == 0:
            memory.sample(answers.done)
    return {"asked": count, **answers.to_json(), **memory.to_json()}


PARTS = (inferences, threads, openings)


def pictures_for(spec: ModelSpec) -> list[Image]:
    """Four pictures, always the same: two with padding, one without, one larger than the input."""
    size = (2 * spec.height, 2 * spec.width, 3)
    noise = np.random.default_rng(0).integers(0, 256, size, np.uint8)
    shapes = generated_pictures(spec.height, spec.width)
    return [*shapes.values(), noise[: spec.height, : spec.width], noise]


def measure(path: Path, counts: Sequence[int], seconds: int) -> Iterator[Row]:
    """The row of each of ``PARTS``, if its count is not 0.

    Args:
        path: the model file.
        counts: inferences, threads and openings.
        seconds: after which a part ends with what it has.

    Raises:
        UserError: the file cannot be run here.
    """
    for part, count in zip(PARTS, counts, strict=True):
        if count:
            yield _timed(part, path, count, seconds)


def _timed(part: Callable[[Path, int, IsOver], Row], path: Path, count: int, seconds: int) -> Row:
    start = time.monotonic()
    row = part(path, count, lambda: time.monotonic() > start + seconds)
    return {"part": part.__name__, "seconds": round(time.monotonic() - start, 1), **row}


def verdicts(row: Row) -> Iterator[tuple[str, bool]]:
    """What a row says, line by line, and whether that is as it should be."""
    line = f"{row['part']}: {row['done']} of {row['asked']} in {row['seconds']} s, "
    line += f"{row['different']} of other bits, {row['nan']} with NaN"
    yield line, not row["different"] + row["nan"]
    for kind in LIMITS:
        if found := row.get(kind):
            word = "flat" if found["flat"] else "NOT FLAT"
            first, last, limit = (megabytes(found[key]) for key in ("first", "last", "limit"))
            line = f"{row['part']}: {kind} {word}: {first} to {last}, limit {limit} more"
            yield line, found["flat"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run all parts; 0 if all is as it should be, 1 if not, 2 on a user's mistake, 130 stopped."""
    rows: list[Row] = []
    passed = True
    try:
        args = parser().parse_args(argv)
        check_output("--output", args.output, [args.model])
        require_writable([args.output])
        counts = (args.inferences, args.threads, args.openings)
        for row in measure(args.model, counts, args.seconds):
            rows.append(row)
            _write(args, rows)  # at once: what comes later may fail, or be stopped
            for line, good in verdicts(row):
                print(line, flush=True)
                passed &= good
    except (UserError, KeyboardInterrupt) as error:
        return explain(PROG, error)
    return 0 if passed else 1


def _write(args: argparse.Namespace, rows: Sequence[Row]) -> None:
    report = {
        "command": f"{PROG} {shlex.join(sys.argv[1:])}",
        "machine": machine_facts(on_gpu=needs_gpu(args.model)),
        "rows": rows,
    }
    with atomic_output(args.output) as temporary:
        temporary.write_text(json.dumps(report, indent=1) + "\n")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result = argparse.ArgumentParser(
        prog=PROG,
        description=__doc__,
        epilog=f"example: {PROG} model.engine --output endurance.json",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = result.add_argument
    add("model", type=Path, help="an engine; or a .ref.onnx, which runs in ONNX Runtime")
    for option, default, what in (
        ("--inferences", 50_000, "inferences in a row"),
        ("--threads", 8, f"threads, each with {PER_THREAD} inferences in a context of its own"),
        ("--openings", 200, "times the file is opened, run once and closed"),
    ):
        text = f"{what}; 0 leaves this part out (default: %(default)s)"
        add(option, metavar="N", type=whole_number(option, 0), default=default, help=text)
    add(
        "--seconds",
        type=whole_number("--seconds", 1),
        default=500,
        help="after which a part ends with what it has (default: %(default)s)",
    )
    add("--output", type=Path, required=True, metavar="FILE.json", help="where the figures go")
    return result


if __name__ == "__main__":
    run_stoppable(PROG, main)
