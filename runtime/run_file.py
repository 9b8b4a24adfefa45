"""``run.json`` of ``detect``: what was run, what came of it; only the same run is resumed."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from runtime.errors import UserError
from runtime.files import atomic_output
from runtime.journal import Record
from runtime.json_text import parse_json, to_json


@dataclass(slots=True)
class Tally:
    """What a run did, without what a former run had done."""

    pictures: int = 0
    videos: int = 0
    """Read to their end."""
    frames: int = 0
    detections: int = 0
    damaged: int = 0
    """Frames that could not be decoded."""
    dropped: int = 0
    """Frames of live videos that came faster than they were used."""
    failed: list[str] = field(default_factory=list)
    """Why pictures and videos were left out, a line each."""

    def count(self, record: Record) -> None:
        """Add one line of the journal."""
        self.detections += len(record.get("detections", ()))
        self.damaged += record.get("damaged", 0)
        self.dropped += record.get("dropped", 0)
        if "error" in record:
            self.failed.append(record["error"])
        elif "image" in record:
            self.pictures += 1
        elif "frame" in record:
            self.frames += 1
        elif record["lost"]:
            self.failed.append(f"{record['video']} broke off after {record['frames']} frames")
        else:
            self.videos += 1


def start_run(path: Path, settings: dict[str, Any], *, resume: bool) -> None:
    """Write what is about to run.

    Args:
        path: of ``run.json``.
        settings: all that decides what is detected.
        resume: whether a former run is to be gone on with.

    Raises:
        UserError: there is none, or it was another; or the file cannot be written.
    """
    if resume:
        former = _read_settings(path)
        if differing := [key for key in settings if former.get(key) != settings[key]]:
            key = differing[0]
            raise UserError(
                f"cannot resume: the run in {path.parent} had {key} {former.get(key)}, now it is "
                f"{settings[key]}; take the same, or another --output"
            )
    _write(path, {"settings": settings})


def finish_run(
    path: Path, settings: dict[str, Any], tally: Tally, *, machine: dict[str, Any], seconds: float
) -> None:
    """Add to ``run.json`` what came of the run and what it ran on.

    Raises:
        UserError: the file cannot be written.
    """
    done = tally.pictures + tally.frames
    result = asdict(tally) | {"seconds": round(seconds, 3), "per_second": round(done / seconds, 3)}
    _write(path, {"settings": settings, "machine": machine, "result": result})


def _read_settings(path: Path) -> dict[str, Any]:
    try:
        settings = parse_json(path.read_bytes())["settings"]
    except FileNotFoundError as error:
        raise UserError(f"nothing to resume: there is no {path}; leave --resume out") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"cannot resume: {path} is no run of detect; leave --resume out") from error
    return settings if isinstance(settings, dict) else {}


def _write(path: Path, content: dict[str, Any]) -> None:
    with atomic_output(path) as temporary:
        temporary.write_bytes(to_json(content, indent=2) + b"\n")
