"""What the commands print about an engine."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.filesize import decimal
from rich.markup import escape
from rich.table import Table

from trt_build.build import BuildResult


def summary_line(engine: Path, title: str, result: BuildResult) -> str:
    """What a build says when it is done."""
    recipe = result.manifest["recipe"]
    backend = f"{title} {recipe['backend_version']}"
    if result.reused:
        return f"{engine} is up to date (same ONNX, options and {backend}); --force builds it anew"
    layers, seconds = result.manifest["layers"], result.manifest["build"]["seconds"]
    return (
        f"{engine}: {decimal(result.manifest['engine']['bytes'])}, built for {_target(recipe)} by "
        f"{backend} in {seconds:.1f} s; layer outputs ({layers['source']}): "
        f"{_counts(layers['output_types'])}"
    )


def print_tables(engine: Path, description: dict[str, Any]) -> None:
    """Print what ``inspect_engine`` found, for people."""
    recipe, layers, model = description["recipe"], description["layers"], description["model"]
    build, onnx = description["build"], description["onnx"]
    options = {k: v for k, v in recipe["options"].items() if k != "compute_capabilities"}
    print_table(
        str(engine),
        (),
        [
            ("model", " ".join(str(model[k]) for k in ("preset", "precision") if k in model)),
            ("built by", f"{recipe['backend']} {recipe['backend_version']}"),
            ("built for", _target(recipe)),
            ("built in", f"{build['seconds']:.1f} s on {build['machine']['cpu']}"),
            ("engine", decimal(description["engine"]["bytes"])),
            ("ONNX", f"{onnx['file']}, {decimal(onnx['bytes'])}"),
            *((key, str(value)) for key, value in options.items() if value is not None),
        ],
    )
    print_table(
        "inputs and outputs",
        ("name", "", "type", "shape", "least, usual, most"),
        [
            (t["name"], t["mode"], t["dtype"], _shape(t["shape"]), _ranges(t))
            for t in description["io"]
        ],
    )
    print_table(
        f"{layers['count']} layers, from the {layers['source']}",
        ("type", "count"),
        [(name, str(count)) for name, count in layers["by_type"].items()],
    )
    print(f"layer outputs: {_counts(layers['output_types'])}")
    if description["layers_note"]:
        print(f"layers are as the manifest has them: {description['layers_note']}")


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a title and a table; no columns: rows without a head."""
    table = Table(*columns, box=SIMPLE_HEAD, show_header=bool(columns))
    for row in rows:
        # Names come from the ONNX: what looks like rich's markup in them is none.
        table.add_row(*map(escape, row))
    print(title)
    Console().print(table)


def _target(recipe: dict[str, Any]) -> str:
    capabilities = recipe["options"]["compute_capabilities"]
    return recipe["gpu"] or f"compute capability {', '.join(capabilities)}"


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items())


def _shape(shape: Sequence[int]) -> str:
    letters = {len(shape) - 2: "H", len(shape) - 1: "W"} | {0: "B"}
    return " x ".join(letters.get(a, "?") if n == -1 else str(n) for a, n in enumerate(shape))


def _ranges(tensor: dict[str, Any]) -> str:
    """What is dynamic of an input's shape: ``1, 1, 8``, or ``320x320, 1280x1920, 1280x1920``."""
    axes = [axis for axis, size in enumerate(tensor["shape"]) if size == -1]
    shapes = (tensor["profile"] or {}).values()
    return ", ".join("x".join(str(shape[axis]) for axis in axes) for shape in shapes)
