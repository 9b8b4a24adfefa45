"""Shows a measurement to people."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from runtime.benchmark import Measurement

_COLUMNS = ("p50", "p90", "p99", "min", "max", "mean")
_BARS = " ▁▂▃▄▅▆▇█"


def print_report(measurement: Measurement) -> None:
    """Print a table, the spread of the GPU times, memory and clocks; warnings go to stderr."""
    machine, row = measurement.machine, measurement.row
    console = Console(highlight=False)
    console.print(_table(measurement))
    if measurement.gpu_times:
        console.print(f"GPU times: {histogram(measurement.gpu_times)}", soft_wrap=True)
    for line in (_memory(row), _clocks(machine)):
        if line:
            console.print(line, soft_wrap=True)
    for warning in warnings(machine):
        print(f"warning: {warning}", file=sys.stderr)


def histogram(milliseconds: Sequence[float], bins: int = 40) -> str:
    """How often each time was seen, from the shortest to the longest, on one line."""
    counts, _ = np.histogram(milliseconds, bins)
    # Rounded up, so that even a single time is seen.
    bars = "".join(_BARS[math.ceil(8 * n / counts.max())] for n in counts.tolist())
    return f"{min(milliseconds):.2f} ms {bars} {max(milliseconds):.2f} ms"


def warnings(machine: dict[str, Any]) -> Iterator[str]:
    """What makes the figures worse than they could be."""
    if slowdowns := machine.get("slowdowns"):
        yield f"the GPU slowed down during the run: {', '.join(slowdowns)}"
    if others := machine.get("other_processes"):
        yield f"{others} other process{'es' * (others > 1)} used the GPU during the run"


def title_of(measurement: Measurement) -> str:
    """What was measured, and on what."""
    machine, row = measurement.machine, measurement.row
    on_gpu = row["gpu_ms"] is not None
    where = machine["gpu"] if on_gpu else f"{machine['cpu']}, {machine['cpu_count']} cores"
    size = f"{row['height']}x{row['width']}"
    return f"{row['model']} {row['contender']}, {size}, batch {row['batch']}, {where}"


def _table(measurement: Measurement) -> Table:
    row = measurement.row
    table = Table(title=f"{title_of(measurement)}; milliseconds")
    table.add_column("")
    for column in (*_COLUMNS, "pictures/s"):
        table.add_column(column, justify="right")
    if row["gpu_ms"] is not None:
        if row["cuda_graph"]:
            _add(table, "GPU, CUDA graph", row["gpu_ms"], row["batch"])
        _add(table, "GPU, no graph", row["gpu_ms_no_cuda_graph"], row["batch"])
    _add_end_to_end(table, "end to end", row)
    if "cpu_preprocessing_end_to_end_ms" in row:
        _add_end_to_end(table, "CPU preprocessing", row, "cpu_preprocessing_")
    return table


def _add_end_to_end(table: Table, name: str, row: dict[str, Any], way: str = "") -> None:
    """Pictures preprocessed in one way: the whole, then its parts."""
    _add(table, name, row[f"{way}end_to_end_ms"], row["batch"])
    parts = row[f"{way}parts_ms"]
    for part, times in parts.items():
        included = part == "infer" and "preprocess" not in parts
        _add(table, f"  {'preprocess, infer' if included else part}", times)


def _add(table: Table, name: str, times: dict[str, float], batch: int | None = None) -> None:
    """A line of the table; the rate only where a batch is given."""
    rate = f"{1000 * batch / times['mean']:.1f}" if batch else ""
    table.add_row(name, *(f"{times[column]:.2f}" for column in _COLUMNS), rate)


def _memory(row: dict[str, Any]) -> str:
    if row["engine_bytes"] is None:
        return ""
    names = ("engine", "activation", "io", "process")
    engine, activations, io, process = (row[f"{name}_bytes"] for name in names)
    line = (
        f"GPU memory: engine {engine / 1e6:.0f} MB, activations {activations / 1e6:.0f} MB, "
        f"inputs and outputs {io / 1e6:.0f} MB"
    )
    return line if process is None else f"{line}; in all this process holds {process / 1e6:.0f} MB"


def _clocks(machine: dict[str, Any]) -> str:
    """Each figure as "lowest-highest of limit", as far as it is known."""
    figures = [
        ("SM", "sm_mhz", "max_sm_mhz", "MHz"),
        ("memory", "memory_mhz", "max_memory_mhz", "MHz"),
        ("", "temperature_c", None, "°C"),
        ("", "power_w", "power_limit_w", "W"),
    ]
    parts = []
    for name, key, limit_key, unit in figures:
        if (span := machine.get(key)) is None:
            continue
        limit = machine.get(limit_key) if limit_key else None
        values = "-".join(dict.fromkeys(f"{value:.0f}" for value in span))
        of = "" if limit is None else f" of {limit:.0f}"
        parts.append(f"{name} {values}{of} {unit}".strip())
    return f"GPU, {machine['samples']} samples during the run: {', '.join(parts)}" if parts else ""
