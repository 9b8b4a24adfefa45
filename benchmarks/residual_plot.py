"""The study of ``benchmarks.residual_stream`` as a picture, written as the text of an SVG."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from runtime.svg import document

LEFT, TOP, STEP, HEIGHT, NAMES = 64, 56, 22, 320, 190
DECADES = (-1, 5)
"""Powers of ten at the bottom and at the top."""
COLOURS = {"stream": "#1f6fb2", "mlp_hidden": "#d2691e", "attention_logits": "#3a8f3a"}


def plot(report: dict[str, Any]) -> str:
    """Largest |x| of every block on a logarithmic axis, and where float16 ends.

    Args:
        report: as ``benchmarks.residual_stream`` stores it.
    """
    blocks = report["blocks"]
    width = STEP * len(blocks)
    parts = [*_axes(width, report["fp16"]["max"]), *_legend()]
    for index, block in enumerate(blocks):
        x = LEFT + STEP * (index + 0.5)
        parts.append(
            f'<text transform="translate({x + 4:.0f} {TOP + HEIGHT + 8}) rotate(90)">'
            f"{block['block']}</text>"
        )
        parts += [
            f'<circle cx="{x:.0f}" cy="{_y(block[what]["max"]):.1f}" r="4" fill="{colour}"/>'
            for what, colour in COLOURS.items()
            if what in block
        ]
    title = f"{report['model']}, largest |x| in {report['pictures']} pictures, float32"
    parts.insert(0, f'<text x="{LEFT}" y="20">{title}</text>')
    return document(max(LEFT + width + 24, 560), TOP + HEIGHT + NAMES, parts)


def _axes(width: int, largest_half: float) -> Iterator[str]:
    low, high = DECADES
    for decade in range(low, high + 1):
        y = _y(10.0**decade)
        yield f'<path d="M{LEFT} {y:.1f}h{width}" stroke="#ddd"/>'
        yield f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{10.0**decade:g}</text>'
    y = _y(largest_half)
    yield f'<path d="M{LEFT} {y:.1f}h{width}" stroke="#c00" stroke-dasharray="6 4"/>'
    yield f'<text x="{LEFT + 4}" y="{y + 16:.1f}" fill="#c00">float16 to {largest_half:g}</text>'


def _legend() -> Iterator[str]:
    for number, (what, colour) in enumerate(COLOURS.items()):
        x = LEFT + 140 * number
        yield f'<circle cx="{x + 4}" cy="36" r="4" fill="{colour}"/>'
        yield f'<text x="{x + 14}" y="40">{what.replace("_", " ")}</text>'


def _y(value: float) -> float:
    """Where a value lies; what is below the axis lies on it."""
    low, high = DECADES
    share = (math.log10(max(value, 10.0**low)) - low) / (high - low)
    return TOP + HEIGHT * (1 - share)
