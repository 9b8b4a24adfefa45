"""A progress bar on terminals."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import TypeVar

T = TypeVar("T")


def track(items: Sequence[T], description: str) -> Iterable[T]:
    """Iterate over ``items`` with a bar on stderr, silent where that is not a terminal."""
    if not sys.stderr.isatty():
        return items
    from rich.console import Console
    from rich.progress import track as rich_track

    # Lines printed to stderr meanwhile appear above the bar: rich redirects them.
    return rich_track(items, description, console=Console(stderr=True), transient=True)
