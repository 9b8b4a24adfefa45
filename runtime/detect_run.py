"""A run of ``detect``: its files, what is left to do, and what came of it."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Generator, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from runtime.closing import Closing
from runtime.coco_json import write_coco
from runtime.detector import Detector
from runtime.errors import UserError
from runtime.files import NotWritableError, sha256_of
from runtime.journal import Journal, Record
from runtime.machine import describe_cpu
from runtime.pipeline import detect_pictures, detect_video
from runtime.postprocess import NmsMode
from runtime.ray_pool import RayPool
from runtime.run_file import Tally, finish_run, start_run
from runtime.sizes import model_files
from runtime.sources import Sources, Video
from runtime.targets import choose_targets
from runtime.video import VideoReader


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """What a run may be asked for; the same for a run and for what resumes it."""

    nms: NmsMode
    score_threshold: float
    """Detections with a lower score are left out."""
    draw: bool
    """Write pictures and videos with their detections drawn in."""


class DetectRun(Closing):
    """Detects in pictures and videos and writes all that is found into one folder.

    What cannot be read is told on stderr, counted and left out.
    """

    def __init__(
        self,
        model: Path,
        sources: Sources,
        output: Path,
        options: RunOptions,
        *,
        max_batch: int,
        resume: bool,
        ray: bool = False,
        actors: int | None = None,
    ) -> None:
        """Load the model and open the folder's files.

        Args:
            model: model file, or a folder of them.
            sources: what to detect in.
            output: a folder that is there.
            options: see there.
            max_batch: most pictures per inference, where the model takes any number.
            resume: go on with the run in the folder.
            ray: spread the pictures over a Ray cluster; there are no videos then.
            actors: see ``RayPool``.

        Raises:
            UserError: the model cannot be run, a file cannot be written, or there is no such run
                to go on with.
        """
        self._output, self._options = output, options
        self.tally = Tally()
        """What was done so far, by this run alone."""
        self._start = time.perf_counter()
        self._lock = threading.Lock()
        with contextlib.ExitStack() as stack:
            self._detector: Detector | RayPool
            if ray:
                self._detector = RayPool(model, nms=options.nms, max_batch=max_batch, actors=actors)
            else:
                self._detector = Detector(model, nms=options.nms, max_batch=max_batch)
            stack.enter_context(self._detector)
            models = {file.name: sha256_of(file) for file in model_files(model)}
            self._settings: dict[str, Any] = {"models": models, **asdict(options)}
            start_run(output / "run.json", self._settings, resume=resume)
            journal = Journal(output / "detections.jsonl", resume=resume)
            self._journal = stack.enter_context(journal)
            self._closers = stack.pop_all()
        done = self._journal.outputs
        self.pictures = [path for path in sources.pictures if str(path) not in done]
        """Those that no former run has finished."""
        self.videos = [video for video in sources.videos if str(video) not in done]
        """Those that no former run has finished."""
        self._targets = choose_targets([*self.pictures, *self.videos], output, done)

    def detect_pictures(self) -> Iterator[Record]:
        """Detect in the pictures; the record of each as it is done.

        Raises:
            UserError: a file cannot be written.
        """
        detect = (
            self._detector.detect_pictures
            if isinstance(self._detector, RayPool)
            else partial(detect_pictures, self._detector)
        )
        targets = {path: self._target(path) for path in self.pictures}
        threshold = self._options.score_threshold
        yield from self._kept(detect(targets, score_threshold=threshold, failed=self._fail))

    def open(self, video: Video) -> VideoReader | None:
        """Open a video; None if that fails, which is told and counted."""
        try:
            return VideoReader(video, _tell)
        except UserError as error:
            self._fail({"video": str(video), "error": str(error)})
            return None

    def detect_video(self, reader: VideoReader) -> Iterator[Record]:
        """Detect in a video; the record of each frame as it is done.

        Raises:
            UserError: the video cannot be written.
        """
        if isinstance(self._detector, RayPool):
            raise ValueError("a video is not for a Ray cluster")
        target = self._target(reader.video)
        threshold = self._options.score_threshold
        frames = 0
        records = detect_video(self._detector, reader, target, score_threshold=threshold)
        for record in self._kept(records):
            frames += 1
            yield record
        end = {"video": str(reader.video), "frames": frames}
        end |= {"damaged": reader.damaged, "dropped": reader.dropped, "lost": reader.lost}
        self._keep(end if target is None else end | {"output": target.name})

    def finish(self) -> None:
        """Write ``detections.json`` and what came of the run.

        Raises:
            UserError: a file cannot be written.
        """
        write_coco(self._journal.found(), self._detector.classes, self._output / "detections.json")
        finish_run(
            self._output / "run.json",
            self._settings,
            self.tally,
            machine=describe_cpu() | self._machine(),
            seconds=time.perf_counter() - self._start,
        )

    def summary(self) -> str:
        """What this run did, in words."""
        tally, parts = self.tally, []
        if self.pictures:
            parts.append(f"{tally.pictures} of {len(self.pictures)} pictures")
        if self.videos:
            parts.append(f"{tally.frames} frames of {tally.videos} of {len(self.videos)} videos")
        if not parts:
            return "nothing was left to do"
        counts = {"damaged": tally.damaged, "dropped": tally.dropped}
        left_out = ", ".join(f"{count} frames {how}" for how, count in counts.items() if count)
        found = f"{tally.detections} detections in {' and '.join(parts)}"
        return f"{found} ({left_out})" if left_out else found

    def close(self) -> None:
        """Free the model and close the files."""
        self._closers.close()

    def _machine(self) -> dict[str, Any]:
        """What runs the model."""
        if isinstance(self._detector, RayPool):
            return self._detector.machine
        library, version = self._detector.model.backend.split()
        return {library: version}

    def _target(self, source: Path | Video) -> Path | None:
        return self._targets[source] if self._options.draw else None

    def _kept(self, records: Generator[Record]) -> Iterator[Record]:
        """The records, each after it was written to the journal."""
        try:
            with contextlib.closing(records):
                for record in records:
                    self._keep(record)
                    yield record
        except (OSError, NotWritableError) as error:
            reason: object = error
            if isinstance(error, OSError):  # of the journal
                reason = f"cannot write to {self._output}: {error.strerror}; make room there"
            raise UserError(
                f"{reason}, then go on with --resume; {self.summary()} so far"
            ) from error

    def _keep(self, record: Record) -> None:
        with self._lock:  # failures come from the thread that reads
            self._journal.append(record)
            self.tally.count(record)

    def _fail(self, record: Record) -> None:
        _tell(f"error: {record['error']}")
        self._keep(record)


def _tell(problem: str) -> None:
    print(problem, file=sys.stderr)
