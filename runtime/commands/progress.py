"""A progress bar on terminals."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from rich.progress import Progress

T = TypeVar("T")


def track(items: Sequence[T], description: str) -> Iterable[T]:
    """Iterate over ``items`` with a bar on stderr, silent where that is not a terminal."""
    return track_results(items, description, len(items))


def track_results(items: Iterable[T], description: str, total: int | None) -> Iterable[T]:
    """As ``track``, for items whose number is known from elsewhere, or not at all (None)."""
    if not sys.stderr.isatty():
        return items
    return _tracked(items, description, total)


def _tracked(items: Iterable[T], description: str, total: int | None) -> Iterator[T]:
    # Lines printed to stderr meanwhile appear above the bar: rich redirects them.
    with _progress() as progress:
        yield from progress.track(items, total, description=description)


def _progress() -> Progress:
    """A bar with the count, the rate and the time that is left."""
    from rich import progress
    from rich.console import Console
    from rich.text import Text

    class RateColumn(progress.ProgressColumn):
        def render(self, task: progress.Task) -> Text:
            return Text(f"{task.speed:.1f}/s" if task.speed else "")

    return progress.Progress(
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.TaskProgressColumn(),
        progress.MofNCompleteColumn(),
        RateColumn(),
        progress.TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )
