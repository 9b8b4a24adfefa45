"""Which file each picture's and video's result goes to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import chain, count
from pathlib import Path

from runtime.sources import Video


def choose_targets(
    sources: Iterable[Path | Video], folder: Path, done: Mapping[str, str | None]
) -> dict[Path | Video, Path]:
    """The file for each source's result: none for two of them, and none that is an input.

    Args:
        sources: pictures (results end in .png) and videos (.mp4).
        folder: where the results go.
        done: sources with a result from a former run, and the names of those results.
    """
    sources = list(sources)
    folder_entry = folder.resolve()
    inputs = [Path(source.url) if isinstance(source, Video) else source for source in sources]
    # A name in a folder is what gets replaced: an input's own, and that of the file it links to.
    taken = {_key(path.parent.resolve() / path.name) for path in inputs}
    taken |= {_key(path.resolve()) for path in inputs}
    taken |= {_key(folder_entry / name) for name in done.values() if name}
    targets = {}
    for source in sources:
        suffix = ".mp4" if isinstance(source, Video) else ".png"
        stems = chain([source.stem], (f"{source.stem}-{n}" for n in count(2)))
        names = (f"{stem}{suffix}" for stem in stems)
        name = next(name for name in names if _key(folder_entry / name) not in taken)
        taken.add(_key(folder_entry / name))
        targets[source] = folder / name
    return targets


def _key(path: Path) -> str:
    """Equal for two paths that some file systems do not tell apart."""
    return str(path).casefold()
