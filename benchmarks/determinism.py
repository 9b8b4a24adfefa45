"""Finds the first tensor of a model that is not the same to the last bit in every run.

Runs the model again and again on two pictures in turns: as it is; and with its stages, and all
that its TopK nodes read and put out, as outputs too, which may change what TensorRT chooses. On a
GPU both with TensorRT's choice of auxiliary streams and without any, with and without CUDA graph;
all with calls one by one and overlapping. Each of these is a row; the JSON is written anew after
every one. Exit code 1 if bits differ or there is NaN.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from benchmarks.bits import has_nan, same_bits
from benchmarks.machine import machine_facts
from benchmarks.subjects import Arrays, Subject, engines, inputs_of, sessions, show_inside
from runtime.backend import RawOutputs
from runtime.commands.options import check_output, whole_number
from runtime.errors import UserError
from runtime.files import atomic_output
from runtime.parallel import in_order
from runtime.stopping import explain, run_stoppable
from trt_build.backend import BACKENDS, choose_backend
from trt_build.requirements import require_writable

PROG = "python -m benchmarks.determinism"
CALLS = (1, 2)
"""In flight at once: with an engine ``Detector.stream`` has two."""

Row = dict[str, Any]


@dataclass(slots=True)
class Seen:
    """One tensor in many runs."""

    firsts: dict[int, tuple[NDArray[Any], bool]] = field(default_factory=dict)
    """What the first run of each picture gave, and whether that has NaN."""
    differing_runs: int = 0
    """Whose bits are others than those of the first run of their picture."""
    largest_difference: float = 0.0
    """From that run, where both are finite."""
    nan_runs: int = 0

    def add(self, picture: int, array: NDArray[Any]) -> None:
        """Count one run, a first one too."""
        if picture not in self.firsts:
            self.firsts[picture] = array, has_nan(array)
        first, first_has_nan = self.firsts[picture]
        if same_bits(array, first):
            self.nan_runs += first_has_nan
            return
        self.differing_runs += 1
        self.nan_runs += has_nan(array)
        finite = np.isfinite(array) & np.isfinite(first)
        difference = np.abs(np.subtract(array, first, dtype=np.float64)[finite])
        self.largest_difference = max(self.largest_difference, float(difference.max(initial=0)))

    def to_json(self) -> Row:
        """The counts."""
        names = ("differing_runs", "largest_difference", "nan_runs")
        return {name: getattr(self, name) for name in names}


def repeat(
    subject: Subject,
    inputs: Sequence[Arrays],
    labels: Mapping[str, str],
    calls: int,
    rounds: Iterable[int],
) -> Row:
    """Run a variant for each of ``rounds`` and compare each run with the first of its picture.

    Args:
        subject: what runs.
        inputs: of pictures that take turns: one call that meddles with another shows.
        labels: what is known of each output, in the order of computation.
        calls: how many are in flight at once.
        rounds: 0, 1, … for as many runs.
    """
    start = time.monotonic()
    seen = {name: Seen() for name in labels}

    def infer(index: int) -> Arrays:
        return subject.infer(inputs[index % len(inputs)])

    runs = 0
    for outputs in in_order(infer, rounds, workers=calls):
        for name, one in seen.items():
            one.add(runs % len(inputs), outputs[name])
        runs += 1
    return {
        **subject.facts(),  # by now it is known whether a CUDA graph could be made
        "calls": calls,
        "runs": runs,
        "seconds": round(time.monotonic() - start, 1),
        "first_to_differ": _first(labels[name] for name, one in seen.items() if one.differing_runs),
        "first_with_nan": _first(labels[name] for name, one in seen.items() if one.nan_runs),
        "tensors": [{"name": labels[name], **one.to_json()} for name, one in seen.items()],
    }


def _first(names: Iterable[str]) -> str | None:
    return next(iter(names), None)


def measure(args: argparse.Namespace) -> Iterator[Row]:
    """A row for each variant.

    Raises:
        UserError: the model cannot be used, or an engine of it cannot be built or run here.
    """
    inputs = inputs_of(args.model)
    model, labels = show_inside(args.model)
    outputs = {name: name for name in RawOutputs._fields}
    with tempfile.TemporaryDirectory(prefix="codetr-determinism-") as folder:
        shown = Path(folder, "shown.onnx")
        onnx.save(model, shown)
        for path, names in ((args.model, outputs), (shown, labels)):
            for subject in _subjects(path, Path(folder), args):
                for calls in CALLS:
                    rounds = _until(time.monotonic() + args.seconds, args.runs)
                    row = repeat(subject, inputs, names, calls, rounds)
                    yield {"shown": path == shown, **row}


def _subjects(path: Path, folder: Path, args: argparse.Namespace) -> Iterator[Subject]:
    if args.backend == "onnxruntime":
        return sessions(path)
    return engines(path, folder, choose_backend(args.backend), args.timing_cache)


def _until(end: float, runs: int) -> Iterator[int]:
    """0, 1, …: as many rounds, fewer if the time is up."""
    for index in range(runs):
        if index and time.monotonic() > end:
            return
        yield index


def sentence(row: Row) -> str:
    """What a row says, for people."""
    keys = ("shown", "most_aux_streams", "aux_streams", "cuda_graph", "calls")
    variant = ", ".join(f"{key} {row[key]}" for key in keys if key in row)
    found = {tensor["name"]: tensor for tensor in row["tensors"]}
    parts = [f"{variant}: {row['runs']} runs in {row['seconds']} s"]
    if first := row["first_to_differ"]:
        count, largest = (found[first][key] for key in ("differing_runs", "largest_difference"))
        parts.append(f"first to differ {first}, in {count} runs by up to {largest:.1e}")
    else:
        parts.append("the same bits")
    if first := row["first_with_nan"]:
        parts.append(f"NaN first in {first}, in {found[first]['nan_runs']} runs")
    return ", ".join(parts)


def main(argv: Sequence[str] | None = None) -> int:
    """Run all variants; 0 if bits are the same, 1 if not, 2 on a user's mistake, 130 stopped."""
    rows: list[Row] = []
    try:
        args = parser().parse_args(argv)
        check_output("--output", args.output, [args.model])
        require_writable([args.output])
        for row in measure(args):
            rows.append(row)
            _write(args, rows)  # at once: what comes later may fail, or be stopped
            print(sentence(row), flush=True)
    except (UserError, KeyboardInterrupt) as error:
        return explain(PROG, error)
    wrong = [first for row in rows if (first := row["first_to_differ"] or row["first_with_nan"])]
    where = ", ".join(dict.fromkeys(wrong)) or "nowhere"
    print(f"other bits or NaN in {len(wrong)} of {len(rows)} rows, first {where}")
    return 1 if wrong else 0


def _write(args: argparse.Namespace, rows: Sequence[Row]) -> None:
    report = {
        "command": f"{PROG} {shlex.join(sys.argv[1:])}",
        "machine": machine_facts(on_gpu=args.backend != "onnxruntime"),
        "rows": rows,
    }
    with atomic_output(args.output) as temporary:
        temporary.write_text(json.dumps(report, indent=1) + "\n")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result = argparse.ArgumentParser(
        prog=PROG,
        description=__doc__,
        epilog=f"example: {PROG} model.onnx --timing-cache t.cache --output determinism.json",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = result.add_argument
    add("model", type=Path, help="model.onnx; for ONNX Runtime a .ref.onnx")
    add(
        "--backend",
        choices=(*BACKENDS, "onnxruntime"),
        default="tensorrt",
        help="what runs it (default: %(default)s)",
    )
    add(
        "--runs",
        metavar="N",
        type=whole_number("--runs", 2),
        default=200,
        help="of each variant (default: %(default)s)",
    )
    add(
        "--seconds",
        metavar="N",
        type=whole_number("--seconds", 1),
        default=60,
        help="after which a variant ends with the runs it has (default: %(default)s)",
    )
    add("--timing-cache", type=Path, metavar="FILE", help="as for trt_build: builds are faster")
    add("--output", type=Path, required=True, metavar="FILE.json", help="where the figures go")
    return result


if __name__ == "__main__":
    run_stoppable(PROG, main)
