"""The log of a run: one JSON object a line, and its curves as a picture."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from codetr.training.files import whole_file

WIDTH, HEIGHT, MARGIN = 720, 240, 48
TICKS = 5


def read_log(path: Path) -> list[dict[str, Any]]:
    """All entries; none where there is no file."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def write_log(path: Path, entries: list[dict[str, Any]]) -> None:
    """Replace the log."""
    with whole_file(path) as temporary:
        temporary.write_text("".join(json.dumps(entry) + "\n" for entry in entries))


def curves(entries: list[dict[str, Any]]) -> str:
    """SVG of the loss and, where it was measured, AP over the steps."""
    titles = {"loss": "loss", "ap": "COCO AP, 100 held-out pictures"}
    series = {
        title: [(entry["step"], entry[key]) for entry in entries if key in entry]
        for key, title in titles.items()
    }
    drawn = [_chart(title, points) for title, points in series.items() if points]
    parts = [
        f'<g transform="translate(0 {number * HEIGHT})">{chart}</g>'
        for number, chart in enumerate(drawn)
    ]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT * len(drawn)}" '
        f'font-family="sans-serif" font-size="12"><rect width="100%" height="100%" fill="white"/>'
        f"{''.join(parts)}</svg>\n"
    )


def _chart(title: str, points: Sequence[tuple[int, float]]) -> str:
    """One chart with axes from zero."""
    right, top = (max(values) or 1 for values in zip(*points, strict=True))
    width, height = WIDTH - 2 * MARGIN, HEIGHT - 2 * MARGIN

    def place(x: float, y: float) -> tuple[float, float]:
        return MARGIN + width * x / right, HEIGHT - MARGIN - height * y / top

    lines = [f'<text x="{MARGIN}" y="{MARGIN - 16}">{title}</text>']
    for tick in range(TICKS + 1):
        x, y = place(right * tick / TICKS, top * tick / TICKS)
        lines += [
            f'<path d="M{MARGIN} {y:.1f}h{width}" stroke="#ddd"/>',
            f'<text x="{MARGIN - 6}" y="{y + 4:.1f}" text-anchor="end">'
            f"{top * tick / TICKS:.3g}</text>",
            f'<text x="{x:.1f}" y="{HEIGHT - MARGIN + 18}" text-anchor="middle">'
            f"{right * tick / TICKS:.0f}</text>",
        ]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (place(*point) for point in points))
    lines.append(f'<polyline points="{path}" fill="none" stroke="#1f6fb2" stroke-width="1.5"/>')
    return "".join(lines)
