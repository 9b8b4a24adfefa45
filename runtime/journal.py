"""What ``detect`` found, as JSON lines that grow while it works, so that a run can be resumed.

Each line is a JSON object, one of:

    a picture       image, width, height, detections; output, if it was drawn
    a frame         video, frame, seconds, width, height, detections
    a video's end   video, frames, damaged, dropped, lost; output, if it was drawn
    a failure       image or video, error
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from runtime.closing import Closing
from runtime.errors import UserError
from runtime.files import atomic_output
from runtime.json_text import parse_json, to_json

Record = dict[str, Any]


class Journal(Closing):
    """Appends records to a file, each a line of its own that is there at once."""

    def __init__(self, path: Path, *, resume: bool) -> None:
        """Open the file.

        Args:
            path: of JSON lines.
            resume: keep what a former run finished: pictures, and videos with all their frames.
                What it failed at, a video it did not finish and half a last line are dropped.
                Otherwise the file starts empty.

        Raises:
            UserError: it cannot be written, or holds something else.
        """
        self.path = path
        self.outputs: dict[str, str | None] = {}
        """Pictures and videos that are done, and the file names of their results."""
        with atomic_output(path) as temporary, temporary.open("wb") as file:
            for record in _finished(path) if resume else ():
                file.write(_line(record))
                self._remember(record)
        # Not buffered: a line that finds no room is not tried again while the file is closed.
        self._file = path.open("ab", buffering=0)

    def append(self, record: Record) -> None:
        """Add one line.

        Raises:
            OSError: the disk is full, for one.
        """
        rest = _line(record)
        while rest:
            rest = rest[self._file.write(rest) :]
        self._remember(record)

    def found(self) -> Iterator[Record]:
        """The records with detections, read from the file."""
        return (record for record in read_records(self.path) if "detections" in record)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _remember(self, record: Record) -> None:
        if name := _finishes(record):
            self.outputs[name] = record.get("output")


def read_records(path: Path) -> Iterator[Record]:
    """The records of a file, but for a last line that was cut short.

    Raises:
        UserError: a line is no record.
    """
    with path.open(encoding="utf-8", errors="replace") as file:
        for number, line in enumerate(file, 1):
            if not line.endswith("\n"):
                return
            try:
                record = parse_json(line)
            except ValueError:
                record = None
            if not _is_record(record):
                raise UserError(
                    f"line {number} of {path} is no record of detect; mend it, or start without "
                    "--resume"
                )
            yield record


def _is_record(record: Any) -> bool:
    """Whether it names a picture or a video, and what else is used of it can be."""
    if not isinstance(record, dict):
        return False
    name, detections = record.get("image") or record.get("video"), record.get("detections", [])
    return (
        isinstance(name, str)
        and isinstance(record.get("output", ""), str)
        and isinstance(detections, list)
        and all(isinstance(detection, dict) for detection in detections)
    )


def _finished(path: Path) -> Iterator[Record]:
    """Records of the pictures and videos that a former run finished."""
    if not path.is_file():
        return
    done = {name for record in read_records(path) if (name := _finishes(record))}
    for record in read_records(path):
        if "error" not in record and (record.get("image") or record["video"]) in done:
            yield record


def _finishes(record: Record) -> str | None:
    """The picture or video that is done with this record."""
    if "image" in record and "detections" in record:
        return str(record["image"])
    return str(record["video"]) if "frames" in record else None


def _line(record: Record) -> bytes:
    return to_json(record) + b"\n"
