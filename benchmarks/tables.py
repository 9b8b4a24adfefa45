"""Tables for the README, from stored figures: ``python -m benchmarks.tables FOLDER``.

FOLDER holds what ``python -m benchmarks.gpu`` or ``python -m benchmarks.accuracy`` left there.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.stored import (
    AIMED_AT,
    ORDER,
    SIZES,
    Row,
    comparisons,
    is_dynamic,
    present,
    throughputs,
    title,
)

_BACKENDS = {"pytorch": "PyTorch", "onnxruntime": "ONNX Runtime", "tensorrt": "TensorRT"}
_PRECISIONS = ("fp32", "fp16", "bf16", "fp8")
_FASTER = "engine-fp16"
"""The engine that all others are compared with."""


def tables(folder: Path) -> str:
    """All tables as Markdown.

    Args:
        folder: with the JSON files of one run of ``benchmarks.gpu`` or ``benchmarks.accuracy``.
    """
    compared, rates, judged = comparisons(folder), throughputs(folder), _judged(folder)
    parts = []
    if compared:
        parts += [_times(compared), *_skipped(compared), _ratios(compared)]
        parts.append(_engines(compared, _verified(folder)))
    if rates:
        parts += [_throughput(rates), _memory(rates)]
    if judged:
        parts.append(_accuracies(judged))
    return "\n\n".join(parts)


def _verified(folder: Path) -> dict[str, Any]:
    """What ``trt_build verify`` found, by the engine's file name without suffix."""
    return {
        path.stem.removeprefix("verify-"): json.loads(path.read_text())
        for path in folder.glob("verify-*.json")
    }


def _judged(folder: Path) -> dict[tuple[str, str], Row]:
    """Rows of ``runtime eval`` by backend and precision."""
    paths = {(b, p): folder / f"{b}-{p}.json" for b in _BACKENDS for p in _PRECISIONS}
    return {
        key: json.loads(path.read_text())["rows"][0] for key, path in paths.items() if path.exists()
    }


def _accuracies(judged: dict[tuple[str, str], Row]) -> str:
    """AP, in brackets AP50 and AP75: a line for each backend, a column for each precision."""
    some = next(iter(judged.values()))
    head = f"AP (AP50, AP75), {some['images']} pictures, {some['height']}x{some['width']}"
    lines = (
        [name, *(_average_precision(judged.get((backend, p))) for p in _PRECISIONS)]
        for backend, name in _BACKENDS.items()
    )
    return _markdown([head, *_PRECISIONS], lines)


def _average_precision(row: Row | None) -> str:
    return "-" if row is None else f"{row['ap']:.4f} ({row['ap50']:.4f}, {row['ap75']:.4f})"


def _times(compared: Sequence[dict[str, Any]]) -> str:
    """Every contender's time and its spread: a column for each size."""
    columns = [_by_contender(comparison) for comparison in compared]
    return _markdown(
        ["GPU time in ms, p50 (p90, p99)", *_heads(compared)],
        (
            [_label(name, columns), *(_time(column.get(name)) for column in columns)]
            for name in _contenders(compared)
        ),
    )


def _label(name: str, columns: Sequence[dict[str, Row]]) -> str:
    """The contender and, as far as that is stored, by what PyTorch samples."""
    ways = {c[name]["sampling"] for c in columns if "sampling" in c.get(name, {})}
    return f"{name} ({', '.join(sorted(ways))})" if ways else name


def _skipped(compared: Sequence[dict[str, Any]]) -> list[str]:
    """A paragraph about the contenders that could not run; none if all could."""
    reasons = {
        f"{name} was left out: {reason}."
        for comparison in compared
        for name, reason in comparison.get("skipped", {}).items()
    }
    return [" ".join(sorted(reasons))] if reasons else []


def _ratios(compared: Sequence[dict[str, Any]]) -> str:
    """How many times faster one engine is than what is none, in the same run."""
    columns = [_by_contender(comparison) for comparison in compared]
    return _markdown(
        [f"{_FASTER} is faster by p50 (aim)", *_heads(compared)],
        (
            [f"than {name}", *(_ratio(name, column) for column in columns)]
            for name in _contenders(compared)
            if not name.startswith("engine-")
        ),
    )


def _ratio(name: str, column: dict[str, Row]) -> str:
    if name not in column or _FASTER not in column:
        return "-"
    row = column[name]
    ratio = f"{row['gpu_ms']['p50'] / column[_FASTER]['gpu_ms']['p50']:.1f} times"
    return ratio + _aim(name, row)


def _aim(name: str, row: Row) -> str:
    """What was aimed at, in brackets."""
    size = row["model"], row["height"], row["width"]
    if name not in AIMED_AT or size not in SIZES:
        return ""
    return f" ({AIMED_AT[name][SIZES.index(size)]:g})"


def _contenders(compared: Sequence[dict[str, Any]]) -> list[str]:
    return present([row for comparison in compared for row in comparison["rows"]])


def _by_contender(comparison: dict[str, Any]) -> dict[str, Row]:
    return {row["contender"]: row for row in comparison["rows"]}


def _heads(compared: Sequence[dict[str, Any]]) -> list[str]:
    return [title(comparison["rows"][0]) for comparison in compared]


def _engines(compared: Sequence[dict[str, Any]], verified: dict[str, Any]) -> str:
    """Size, memory, build time and accuracy of every engine."""
    head = ["engine", "input", "ms (aim)", "file", "activations", "build", "detections agree"]
    rows = [
        [
            row["contender"],
            title(row),
            f"{row['gpu_ms']['p50']:.2f}{_aim(row['contender'], row)}",
            _megabytes(row["engine_bytes"]),
            _megabytes(row["activation_bytes"]),
            f"{row['build_s']:.0f} s",
            *_accuracy(verified.get(_stem(row))),
        ]
        for comparison in compared
        for row in sorted(comparison["rows"], key=lambda row: ORDER.index(row["contender"]))
        if "engine_bytes" in row
    ]
    return _markdown([*head, "worst stage"], rows)


def _accuracy(verification: dict[str, Any] | None) -> tuple[str, str]:
    if verification is None:
        return "-", "-"
    errors = [stage["relative_error"] for stage in verification["stages"]]
    worst = f"{max(errors):.1e}" if errors and None not in errors else "-"
    return f"{verification['detections']['agreement']:.1%}", worst


def _stem(row: Row) -> str:
    """Of the files of an engine, as ``benchmarks.gpu`` names them."""
    contender = row["contender"]
    build = contender.removeprefix("engine-").removeprefix("tensorrt-plain-")
    stem = f"{row['model']}-{row['height']}x{row['width']}-{build}"
    return f"{stem}.ref" if contender.startswith("tensorrt-plain-") else stem


def _throughput(rates: Sequence[Row]) -> str:
    """Pictures per second: a line for each kind of engine and number of contexts."""
    batches = sorted({row["batch"] for row in rates})
    lines: dict[str, dict[int, Row]] = {}
    for row in rates:
        built = "a dynamic batch" if is_dynamic(row) else "this batch alone"
        together = f", {row['contexts']} contexts" if row["contexts"] > 1 else ""
        name = f"{title(row)}, {row['contender']} for {built}{together}"
        lines.setdefault(name, {})[row["batch"]] = row
    return _markdown(
        ["pictures/s (ms for the batch), p50", *(f"batch {batch}" for batch in batches)],
        ([name, *(_rate(found.get(batch)) for batch in batches)] for name, found in lines.items()),
    )


def _rate(row: Row | None) -> str:
    return "-" if row is None else f"{row['pictures_per_s']:.1f} ({row['round_ms']['p50']:.2f})"


def _memory(rates: Sequence[Row]) -> str:
    """What each engine takes, and the whole process with each number of contexts."""
    engines: dict[tuple[str, str, str], dict[int, Row]] = {}
    for row in rates:
        batches = " to ".join(map(str, dict.fromkeys(row["built_for"])))
        engines.setdefault((row["contender"], title(row), batches), {})[row["contexts"]] = row
    head = ["GPU memory", "input", "batch", "engine", "activations", "inputs and outputs"]
    return _markdown(
        [*head, "process", "process, 2 contexts"],
        (
            [
                *key,
                *(_megabytes(rows[1][f"{part}_bytes"]) for part in ("engine", "activation", "io")),
                *(_megabytes(rows[contexts]["process_bytes"]) for contexts in (1, 2)),
            ]
            for key, rows in engines.items()
        ),
    )


def _time(row: Row | None) -> str:
    return "-" if row is None else "{p50:.2f} ({p90:.2f}, {p99:.2f})".format_map(row["gpu_ms"])


def _megabytes(nbytes: int | None) -> str:
    """None: the driver did not tell."""
    return "-" if nbytes is None else f"{nbytes / 1e6:.0f} MB"


def _markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tables", description=__doc__)
    parser.add_argument("folder", type=Path)
    print(tables(parser.parse_args().folder))
