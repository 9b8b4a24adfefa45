"""Plots for the README, from stored figures: ``python -m benchmarks.plots FOLDER``.

FOLDER holds what ``python -m benchmarks.gpu`` left there, and gets ``latency.svg`` (every contender
at every size) and, where there are figures of ``benchmarks.throughput``, ``throughput.svg``
(pictures per second over the batch) and ``pixels.svg`` (milliseconds per megapixel over the
megapixels of a batch: level where time grows as they do).
"""

from __future__ import annotations

import argparse
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.stored import ORDER, Row, comparisons, is_dynamic, throughputs, title
from runtime.files import atomic_output
from runtime.svg import document

Point = tuple[float, float]

_BARS = {
    "pytorch-fp32": "#b0b0b0",
    "pytorch-fp16": "#8c8c8c",
    "torch-compile-fp16": "#686868",
    "onnxruntime-fp16": "#d2691e",
    "tensorrt-plain-fp16": "#b5a13a",
    "engine-fp32": "#9cc4e4",
    "engine-bf16": "#5a9bd0",
    "engine-fp16-attention": "#3f83bd",
    "engine-fp16": "#1f6fb2",
    "engine-fp8": "#0b3c66",
}
_LINES = ("#1f6fb2", "#d2691e", "#3a8f3a", "#8e5bb5", "#c94f7c", "#7f7f7f")
_NAMES, _BAR, _ROW = 150, 460, 20
"""Of the bars, in pixels: room for names, the longest bar, from one bar to the next."""
_LEFT, _TOP, _WIDTH, _HEIGHT, _LEGEND = 64, 48, 520, 300, 300
"""Of the lines, in pixels: where the axes begin, how long they are, room for the legend."""


class Line(NamedTuple):
    """Points that belong together."""

    points: Sequence[Point]
    colour: str
    dashed: bool = False


def plots(folder: Path) -> dict[str, str]:
    """File name and SVG of every plot that there are figures for."""
    drawn = {}
    if compared := comparisons(folder):
        drawn["latency.svg"] = latency(compared)
    # Of one engine for all batches, so that nothing but the batch differs.
    if rows := [row for row in throughputs(folder) if is_dynamic(row)]:
        drawn["throughput.svg"] = throughput(rows)
        drawn["pixels.svg"] = pixels(rows)
    return drawn


def latency(compared: Sequence[dict[str, Any]]) -> str:
    """A bar to p50 for each contender, a thin one to p99; each model and size has its scale."""
    parts = ['<text x="12" y="20" font-size="15">GPU time in ms, batch 1: p50, thin to p99</text>']
    y = 34
    for comparison in compared:
        rows = sorted(comparison["rows"], key=lambda row: ORDER.index(row["contender"]))
        parts.append(f'<text x="12" y="{y + 16}" font-weight="bold">{title(rows[0])}</text>')
        y += 24
        scale = _BAR / max(row["gpu_ms"]["p99"] for row in rows)
        for row in rows:
            parts += _bar(row, y, scale)
            y += _ROW
        y += 10
    return document(_NAMES + _BAR + 80, y, parts)


def _bar(row: Row, y: int, scale: float) -> Iterator[str]:
    """``scale`` is in pixels for a millisecond."""
    name, times = row["contender"], row["gpu_ms"]
    middle, end = times["p50"] * scale, times["p99"] * scale
    yield f'<text x="{_NAMES - 8}" y="{y + 12}" text-anchor="end">{name}</text>'
    yield f'<path d="M{_NAMES} {y + 8}h{end:.1f}" stroke="{_BARS[name]}" stroke-width="2"/>'
    yield (
        f'<rect x="{_NAMES}" y="{y}" width="{middle:.1f}" height="{_ROW - 4}" '
        f'fill="{_BARS[name]}"/>'
    )
    yield f'<text x="{_NAMES + end + 6:.1f}" y="{y + 12}">{times["p50"]:.2f}</text>'


def throughput(rows: Sequence[Row]) -> str:
    """Pictures per second over the batch, dashed with two contexts."""
    colours = _colours(rows)
    lines = {}
    for (name, contexts), of_line in _by_line(rows).items():
        points = [(row["batch"], row["pictures_per_s"]) for row in of_line]
        label = f"{name}, {contexts} contexts" if contexts > 1 else name
        lines[label] = Line(points, colours[name], dashed=contexts > 1)
    return _chart("pictures per second", "batch of each context", lines)


def pixels(rows: Sequence[Row]) -> str:
    """Milliseconds per megapixel over the megapixels of a batch."""
    colours = _colours(rows)
    lines = {}
    for (name, _), of_line in _by_line([row for row in rows if row["contexts"] == 1]).items():
        sizes = [row["batch"] * row["height"] * row["width"] / 1e6 for row in of_line]
        times = [row["round_ms"]["p50"] for row in of_line]
        points = [(size, ms / size) for size, ms in zip(sizes, times, strict=True)]
        lines[name] = Line(points, colours[name])
    return _chart("milliseconds per megapixel", "megapixels of a batch", lines)


def _by_line(rows: Sequence[Row]) -> dict[tuple[str, int], list[Row]]:
    """By what was measured and the number of contexts."""
    lines: dict[tuple[str, int], list[Row]] = {}
    for row in rows:
        lines.setdefault((_name(row), row["contexts"]), []).append(row)
    return lines


def _colours(rows: Sequence[Row]) -> dict[str, str]:
    """Of what was measured, with any number of contexts."""
    return dict(zip(dict.fromkeys(map(_name, rows)), itertools.cycle(_LINES), strict=False))


def _name(row: Row) -> str:
    return f"{title(row)}, {row['contender']}"


def _chart(what: str, over: str, lines: Mapping[str, Line]) -> str:
    """Lines over a logarithmic axis of powers of two; the other axis begins at zero."""
    points = [point for line in lines.values() for point in line.points]
    low = math.floor(math.log2(min(x for x, _ in points)))
    high = max(math.ceil(math.log2(max(x for x, _ in points))), low + 1)
    step = _round_step(max(y for _, y in points) / 5)
    steps = math.ceil(max(y for _, y in points) / step)

    def place(point: Point) -> Point:
        x, y = (math.log2(point[0]) - low) / (high - low), point[1] / (steps * step)
        return _LEFT + _WIDTH * x, _TOP + _HEIGHT * (1 - y)

    parts = [f'<text x="12" y="20" font-size="15">{what}</text>']
    for tick in range(steps + 1):
        _, y = place((2.0**low, tick * step))
        parts.append(f'<path d="M{_LEFT} {y:.1f}h{_WIDTH}" stroke="#ddd"/>')
        parts.append(
            f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{tick * step:g}</text>'
        )
    for power in range(low, high + 1):
        x, y = place((2.0**power, 0))
        parts.append(
            f'<text x="{x:.1f}" y="{y + 18:.1f}" text-anchor="middle">{2.0**power:g}</text>'
        )
    parts.append(
        f'<text x="{_LEFT + _WIDTH / 2:.0f}" y="{_TOP + _HEIGHT + 38}" '
        f'text-anchor="middle">{over}</text>'
    )
    for number, (name, line) in enumerate(lines.items()):
        parts += _drawn(name, line._replace(points=[*map(place, line.points)]), number)
    return document(_LEFT + _WIDTH + _LEGEND, _TOP + _HEIGHT + 52, parts)


def _drawn(name: str, line: Line, number: int) -> Iterator[str]:
    """A line whose points are in pixels, and its entry in the legend."""
    style = f'stroke="{line.colour}" stroke-width="1.5"' + ' stroke-dasharray="6 4"' * line.dashed
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in line.points)
    yield f'<polyline points="{path}" fill="none" {style}/>'
    for x, y in line.points:
        yield f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{line.colour}"/>'
    x, y = _LEFT + _WIDTH + 16, _TOP + 18 * number
    yield f'<path d="M{x} {y}h20" {style}/><text x="{x + 26}" y="{y + 4}">{name}</text>'


def _round_step(least: float) -> float:
    """The smallest of 1, 2, 5, 10, 20 … (and their tenths) that is not below ``least``."""
    decade = 10.0 ** math.floor(math.log10(least))
    return next(decade * factor for factor in (1, 2, 5, 10) if decade * factor >= least)


def main() -> None:
    """Draw all plots into their folder."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.plots",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    for name, svg in plots(folder).items():
        with atomic_output(folder / name) as temporary:
            temporary.write_text(svg)
        print(folder / name)


if __name__ == "__main__":
    main()
