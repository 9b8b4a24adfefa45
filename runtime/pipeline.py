"""Pictures and videos through a detector: read, detect, draw and write at the same time."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import numpy as np

from runtime.detections import Detections
from runtime.detector import Detector, nonsense
from runtime.draw import draw_detections
from runtime.errors import UserError
from runtime.files import atomic_output
from runtime.images import Image, write_image
from runtime.journal import Record
from runtime.parallel import CPU_WORKERS, in_order
from runtime.streaming import detect_in_each, read_pictures
from runtime.video import VideoReader
from runtime.video_writer import VideoWriter


def detect_pictures(
    detector: Detector,
    targets: dict[Path, Path | None],
    *,
    score_threshold: float,
    failed: Callable[[Record], None],
) -> Generator[Record]:
    """Detect in picture files.

    Args:
        detector: holds the model.
        targets: the pictures, and where each is written with its detections drawn in; None: it
            is not.
        score_threshold: detections with a lower score are left out.
        failed: called with the record of a picture that cannot be read, in another thread.

    Yields:
        The record of each picture, once all of it is written; see ``runtime.journal``.

    Raises:
        UserError: a file cannot be written, or the model puts out NaN or infinity.
        OSError: as before; the disk is full, for one.
    """

    def finish(found: tuple[Path, Image, Detections]) -> Record:
        path, image, detections = found
        _require_finite(detections)
        confident = detections.above(score_threshold)
        record = {"image": str(path), **_described(image, confident)}
        if (target := targets[path]) is not None:
            write_image(target, draw_detections(image, confident))
            record["output"] = target.name
        return record

    def readable() -> Iterator[tuple[Path, Image]]:
        for path, image in read_pictures(targets, lambda path: path):
            if isinstance(image, UserError):
                failed({"image": str(path), "error": str(image)})
            else:
                yield path, image

    # Drawn and encoded at once too: a PNG takes longer than its detections.
    yield from in_order(finish, detect_in_each(detector, readable()), workers=CPU_WORKERS)


def detect_video(
    detector: Detector, reader: VideoReader, target: Path | None, *, score_threshold: float
) -> Generator[Record]:
    """Detect in a video.

    Args:
        detector: holds the model.
        reader: the video, just opened.
        target: where it is written with the detections drawn in; None: it is not. The file
            appears with the last frame.
        score_threshold: detections with a lower score are left out.

    Yields:
        The record of each frame; see ``runtime.journal``.

    Raises:
        UserError: the video cannot be written, or the model puts out NaN or infinity.
        OSError: as before; the disk is full, for one.
    """
    with contextlib.ExitStack() as stack:
        writer = None
        if target is not None:
            temporary = stack.enter_context(atomic_output(target))
            writer = stack.enter_context(VideoWriter(temporary, reader.rate))

        def finish(found: tuple[float, Image, Detections]) -> Record:
            seconds, image, detections = found
            _require_finite(detections)
            confident = detections.above(score_threshold)
            if writer is not None:
                writer.write(draw_detections(image, confident), seconds)
            return {"seconds": round(seconds, 3), **_described(image, confident)}

        frames = ((frame.seconds, frame.image) for frame in reader.frames())
        # One worker: frames are encoded one after the other.
        records = in_order(finish, detect_in_each(detector, frames), workers=1)
        for index, record in enumerate(records):
            yield {"video": str(reader.video), "frame": index, **record}


def _require_finite(detections: Detections) -> None:
    """Refuse what can neither be drawn nor be written as JSON; ``eval`` counts it instead.

    Raises:
        UserError: a box or score is NaN or infinite.
    """
    if not (np.isfinite(detections.boxes).all() and np.isfinite(detections.scores).all()):
        raise nonsense("NaN or infinity")


def _described(image: Image, detections: Detections) -> Record:
    height, width, _ = image.shape
    return {"width": width, "height": height, "detections": detections.records()}
