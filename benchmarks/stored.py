"""Figures as ``benchmarks.gpu`` stores them, read back for tables and plots.

Comparisons of earlier versions lack ``skipped`` and, in rows of PyTorch, ``sampling``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

Row = dict[str, Any]

MODELS = {"co_dino_swin_l": "Swin-L", "co_dino_r50": "R50"}
ORDER = (
    *("pytorch-fp32", "pytorch-fp16", "torch-compile-fp16"),
    *("onnxruntime-fp16", "tensorrt-plain-fp16"),
    *("engine-fp32", "engine-bf16", "engine-fp16-attention", "engine-fp16", "engine-fp8"),
)
"""Contenders as tables and plots show them."""

SIZES = tuple(("co_dino_swin_l", *size) for size in ((608, 608), (768, 1152), (1280, 1920)))
"""For which there is an aim."""
AIMED_AT = {
    "pytorch-fp32": (10, 10, 11),
    "pytorch-fp16": (4.5, 3, 2.8),
    "torch-compile-fp16": (2.5, 2, 2),
    "engine-bf16": (4.0, 7.5, 18),
    "engine-fp16": (4.0, 7.5, 18),
    "engine-fp8": (3.2, 5.5, 13),
}
"""At each of ``SIZES``: milliseconds of an engine; of others, how many times longer they take."""


def comparisons(folder: Path) -> list[dict[str, Any]]:
    """What ``benchmarks.engines`` stored for each model and size: Swin-L first, small first."""
    found = [json.loads(path.read_text()) for path in sorted(folder.glob("co_dino_*.json"))]
    return sorted(found, key=lambda comparison: _place(comparison["rows"][0]))


def throughputs(folder: Path) -> list[Row]:
    """Rows of ``benchmarks.throughput`` by model, size, kind of engine, contexts and batch."""
    rows = [
        row
        for path in folder.glob("throughput-*.json")
        for row in json.loads(path.read_text())["rows"]
    ]
    key = ("contender", "contexts", "built_for", "batch")
    return sorted(rows, key=lambda r: (_place(r), is_dynamic(r), *(r[name] for name in key)))


def is_dynamic(row: Row) -> bool:
    """Whether the engine of a row of ``benchmarks.throughput`` takes several batches."""
    smallest, largest = row["built_for"]
    return bool(smallest != largest)


def present(rows: Iterable[Row]) -> list[str]:
    """The contenders among some rows, in their order."""
    return sorted({row["contender"] for row in rows}, key=ORDER.index)


def title(row: Row) -> str:
    """Model and size."""
    return f"{MODELS[row['model']]} {row['height']}x{row['width']}"


def _place(row: Row) -> tuple[int, int]:
    return list(MODELS).index(row["model"]), row["height"] * row["width"]
