"""The frame of a plot as the text of an SVG: equal figures give equal bytes."""

from __future__ import annotations

from collections.abc import Iterable


def document(width: int, height: int, parts: Iterable[str]) -> str:
    """A white sheet.

    Args:
        width: in pixels.
        height: in pixels.
        parts: elements of SVG, the hindmost first.
    """
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        'font-family="sans-serif" font-size="12"><rect width="100%" height="100%" fill="white"/>'
        f"{''.join(parts)}</svg>\n"
    )
