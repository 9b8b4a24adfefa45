"""Picture files and their detections as a stream: decoded and detected ahead of the consumer."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

from runtime.detections import Detections
from runtime.detector import Detector
from runtime.errors import UserError
from runtime.images import Image, read_image
from runtime.parallel import CPU_WORKERS, in_order

T = TypeVar("T")


def read_pictures(
    items: Iterable[T], path_of: Callable[[T], Path]
) -> Iterator[tuple[T, Image | UserError]]:
    """Decode the picture file of each item in other threads; the error where that fails."""

    def read(item: T) -> tuple[T, Image | UserError]:
        try:
            return item, read_image(path_of(item))
        except UserError as error:
            return item, error

    return in_order(read, items, workers=CPU_WORKERS)


def detect_in_each(
    detector: Detector, pictures: Iterable[tuple[T, Image]]
) -> Iterator[tuple[T, Image, Detections]]:
    """``Detector.stream`` for pictures that belong to something."""
    waiting: deque[T] = deque()

    def images() -> Iterator[Image]:
        for item, image in pictures:
            waiting.append(item)
            yield image

    for image, detections in detector.stream(images()):
        yield waiting.popleft(), image, detections
