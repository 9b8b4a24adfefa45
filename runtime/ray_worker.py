"""What a Ray actor does: loads the model once, then detects in block after block of pictures."""

from __future__ import annotations

import json
import os
import socket
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runtime.errors import UserError
from runtime.files import NotWritableError
from runtime.journal import Record
from runtime.postprocess import NmsMode


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What all actors of a run are told."""

    folder: Path
    """The driver's current folder, which the paths are relative to."""
    model: Path
    nms: NmsMode
    max_batch: int
    score_threshold: float
    """Detections with a lower score are left out."""


class BlockDetector:
    """The callable of Ray Data's actors; each has a model and serves several threads.

    Problems that end the run are results too, because Ray would add its traceback to them. After
    any other failure, such as a lost CUDA context, the process ends: Ray replaces it by a fresh one
    that does the block again.
    """

    def __init__(self, job: Job) -> None:
        """Load the model."""
        os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")  # read when first imported
        from runtime.detector import Detector

        self._job = job
        self._problem: dict[str, Any] | None = None
        try:
            os.chdir(job.folder)
            self._detector = Detector(job.model, nms=job.nms, max_batch=job.max_batch)
        except (UserError, OSError) as error:
            self._problem = _described(error)

    def __call__(self, row: dict[str, str]) -> dict[str, str]:
        """Detect in a block.

        Args:
            row: ``block``, as JSON: pairs of a picture and where it is written with its detections
                drawn in (None: it is not).

        Returns:
            ``result``, as JSON: ``records`` (see ``runtime.journal``), ``classes`` and ``backend``;
            or ``problem``, which is to end the run.
        """
        try:
            result = self._detect(json.loads(row["block"]))
        except (UserError, OSError) as error:
            result = {"problem": _described(error)}
        except Exception:
            traceback.print_exc()
            sys.stderr.flush()
            os._exit(1)
        return {"result": json.dumps(result)}

    def _detect(self, block: list[tuple[str, str | None]]) -> dict[str, Any]:
        from runtime.pipeline import detect_pictures

        if self._problem:
            return {"problem": self._problem}
        records: list[Record] = []
        targets = {
            Path(picture): None if target is None else Path(target) for picture, target in block
        }
        records += detect_pictures(
            self._detector,
            targets,
            score_threshold=self._job.score_threshold,
            failed=records.append,
        )
        return {
            "records": records,
            "classes": self._detector.classes,
            "backend": self._detector.model.backend,
        }


def raise_problem(problem: dict[str, Any]) -> None:
    """Raise what an actor met, as if it had been met here.

    Raises:
        UserError: with the name of the actor's machine; a ``NotWritableError`` where a picture
            could not be written.
    """
    kind = NotWritableError if problem["unwritten"] else UserError
    raise kind(problem["words"])


def _described(error: Exception) -> dict[str, Any]:
    return {
        "unwritten": isinstance(error, OSError | NotWritableError),
        "words": f"{error} (on {socket.gethostname()})",
    }
