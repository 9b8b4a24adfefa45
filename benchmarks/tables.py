"""Tables for the README, from stored figures: ``python -m benchmarks.tables FOLDER``.

FOLDER holds what ``python -m benchmarks.gpu`` or ``python -m benchmarks.accuracy`` left there.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

_MODELS = {"co_dino_swin_l": "Swin-L", "co_dino_r50": "R50"}
_ORDER = (
    *("pytorch-fp32", "pytorch-fp16", "torch-compile-fp16"),
    *("tensorrt-plain-fp16", "engine-fp32", "engine-bf16", "engine-fp16", "engine-fp8"),
)
_BACKENDS = {"pytorch": "PyTorch", "onnxruntime": "ONNX Runtime", "tensorrt": "TensorRT"}
_PRECISIONS = ("fp32", "fp16", "bf16", "fp8")


def tables(folder: Path) -> str:
    """All tables as Markdown.

    Args:
        folder: with the JSON files of one run of ``benchmarks.gpu`` or ``benchmarks.accuracy``.
    """
    comparisons = [json.loads(path.read_text()) for path in sorted(folder.glob("co_dino_*.json"))]
    comparisons.sort(key=lambda c: (c["rows"][0]["model"] != "co_dino_swin_l", _area(c)))
    verified = {
        path.stem.removeprefix("verify-"): json.loads(path.read_text())
        for path in folder.glob("verify-*.json")
    }
    parts = [_times(comparisons), _engines(comparisons, verified)] if comparisons else []
    if judged := _judged(folder):
        parts.append(_accuracies(judged))
    return "\n\n".join(parts)


def _judged(folder: Path) -> dict[tuple[str, str], dict[str, Any]]:
    """Rows of ``runtime eval`` by backend and precision."""
    paths = {(b, p): folder / f"{b}-{p}.json" for b in _BACKENDS for p in _PRECISIONS}
    return {
        key: json.loads(path.read_text())["rows"][0] for key, path in paths.items() if path.exists()
    }


def _accuracies(judged: dict[tuple[str, str], dict[str, Any]]) -> str:
    """AP, in brackets AP50 and AP75: a line for each backend, a column for each precision."""
    some = next(iter(judged.values()))
    title = f"AP (AP50, AP75), {some['images']} pictures, {some['height']}x{some['width']}"
    lines = (
        [name, *(_average_precision(judged.get((backend, p))) for p in _PRECISIONS)]
        for backend, name in _BACKENDS.items()
    )
    return _markdown([title, *_PRECISIONS], lines)


def _average_precision(row: dict[str, Any] | None) -> str:
    return "-" if row is None else f"{row['ap']:.4f} ({row['ap50']:.4f}, {row['ap75']:.4f})"


def _times(comparisons: Sequence[dict[str, Any]]) -> str:
    """p50 and p99 of every contender: a column for each size."""
    columns = [{row["contender"]: row for row in c["rows"]} for c in comparisons]
    names = [name for name in _ORDER if any(name in column for column in columns)]
    head = ["GPU time in ms, p50 (p99)", *(_title(c["rows"][0]) for c in comparisons)]
    return _markdown(head, ([name, *(_time(c.get(name)) for c in columns)] for name in names))


def _engines(comparisons: Sequence[dict[str, Any]], verified: dict[str, Any]) -> str:
    """Size, memory, build time and accuracy of every engine."""
    head = ["engine", "input", "file", "activations", "build", "detections agree", "worst stage"]
    rows = [
        [
            row["contender"],
            _title(row),
            _megabytes(row["engine_bytes"]),
            _megabytes(row["activation_bytes"]),
            f"{row['build_s']:.0f} s",
            *_accuracy(verified.get(_stem(row))),
        ]
        for comparison in comparisons
        for row in sorted(comparison["rows"], key=lambda row: _ORDER.index(row["contender"]))
        if "engine_bytes" in row
    ]
    return _markdown(head, rows)


def _accuracy(verification: dict[str, Any] | None) -> tuple[str, str]:
    if verification is None:
        return "-", "-"
    errors = [stage["relative_error"] for stage in verification["stages"]]
    worst = f"{max(errors):.1e}" if errors and None not in errors else "-"
    return f"{verification['detections']['agreement']:.1%}", worst


def _stem(row: dict[str, Any]) -> str:
    """Of the files of an engine, as ``benchmarks.gpu`` names them."""
    kind, _, precision = row["contender"].rpartition("-")
    stem = f"{row['model']}-{row['height']}x{row['width']}-{precision}"
    return f"{stem}.ref" if kind == "tensorrt-plain" else stem


def _title(row: dict[str, Any]) -> str:
    return f"{_MODELS[row['model']]} {row['height']}x{row['width']}"


def _area(comparison: dict[str, Any]) -> int:
    return int(comparison["rows"][0]["height"] * comparison["rows"][0]["width"])


def _time(row: dict[str, Any] | None) -> str:
    return "-" if row is None else f"{row['gpu_ms']['p50']:.2f} ({row['gpu_ms']['p99']:.2f})"


def _megabytes(nbytes: int) -> str:
    return f"{nbytes / 1e6:.0f} MB"


def _markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tables", description=__doc__)
    parser.add_argument("folder", type=Path)
    print(tables(parser.parse_args().folder))
