"""What the arguments of ``detect`` name: pictures, folders, patterns, videos, cameras, streams."""

from __future__ import annotations

import glob
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from runtime.errors import UserError

IMAGE_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
VIDEO_SUFFIXES = frozenset({".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm"})
_LIVE_SCHEMES = ("rtsp", "rtsps", "rtmp", "rtp", "srt", "tcp", "udp")
_CAMERA = "/dev/video"


@dataclass(frozen=True, slots=True)
class Video:
    """A video file, a camera or a network stream."""

    url: str
    """A path, or what PyAV opens."""

    @property
    def live(self) -> bool:
        """Whether it goes on whether or not anybody looks, and may be opened again when lost."""
        return self.is_camera or self.url.partition("://")[0] in _LIVE_SCHEMES

    @property
    def is_camera(self) -> bool:
        """Whether it is a camera of this machine (Video4Linux)."""
        return self.url.startswith(_CAMERA)

    @property
    def stem(self) -> str:
        """What its results are named after."""
        return Path(self.url.partition("?")[0]).stem or "stream"

    def __str__(self) -> str:
        """The address, without the password that may be in it."""
        scheme, separator, rest = self.url.partition("://")
        if not separator:
            return self.url
        return f"{scheme}://{rest.rpartition('@')[2]}"


@dataclass(frozen=True, slots=True)
class Sources:
    """Everything to detect in, each once."""

    pictures: list[Path] = field(default_factory=list)
    videos: list[Video] = field(default_factory=list)


def find_sources(arguments: Sequence[str]) -> Sources:
    """Sort out what the arguments name.

    Args:
        arguments: files; folders, of which the pictures and videos are taken, not those of their
            sub-folders; patterns with ``*``, ``?`` or ``**``; ``/dev/video0``; ``rtsp://…``.

    Raises:
        UserError: a folder or pattern without a picture or video.
    """
    pictures: dict[Path, None] = {}  # ordered sets
    videos: dict[Video, None] = {}
    for argument in arguments:
        if "://" in argument or argument.startswith(_CAMERA):
            videos[Video(argument)] = None
            continue
        for path in _files(Path(argument)):
            if path.suffix.lower() in VIDEO_SUFFIXES:
                videos[Video(str(path))] = None
            else:
                pictures[path] = None
    return Sources(list(pictures), list(videos))


def picture_files(paths: Iterable[Path]) -> list[Path]:
    """Files as given, folders replaced by the pictures in them; each once.

    Raises:
        UserError: a folder without pictures, or one that cannot be read.
    """
    files = (
        f for path in paths for f in (_inside(path, IMAGE_SUFFIXES) if path.is_dir() else [path])
    )
    return list(dict.fromkeys(files))


def _files(path: Path) -> list[Path]:
    """What one argument stands for."""
    if path.is_dir():
        return _inside(path, IMAGE_SUFFIXES | VIDEO_SUFFIXES)
    if path.exists() or not glob.has_magic(str(path)):
        return [path]
    found = map(Path, glob.glob(str(path), recursive=True))  # noqa: PTH207, Path's needs a folder
    wanted = IMAGE_SUFFIXES | VIDEO_SUFFIXES
    files = sorted(file for file in found if file.suffix.lower() in wanted and file.is_file())
    if not files:
        raise UserError(f"no picture or video matches {path}")
    return files


def _inside(folder: Path, suffixes: frozenset[str]) -> list[Path]:
    try:
        files = sorted(
            file
            for file in folder.iterdir()
            if file.suffix.lower() in suffixes and not file.name.startswith(".")
        )
    except OSError as error:
        raise UserError(f"cannot read folder {folder}: {error.strerror}") from error
    if not files:
        listed = " ".join(sorted(suffixes))
        raise UserError(f"no pictures in folder {folder}; looked for files named {listed}")
    return files
