"""The JSON file of ``detect``: COCO's layout, so that COCO tools read it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from runtime.detections import Detections
from runtime.files import atomic_output


class CocoResults:
    """Collects the detections of pictures, then writes them as one file."""

    def __init__(self, classes: tuple[str, ...]) -> None:
        """Start without pictures; category ids count from 1."""
        self._images: list[dict[str, Any]] = []
        self._annotations: list[dict[str, Any]] = []
        self._categories = [{"id": i, "name": name} for i, name in enumerate(classes, 1)]

    @property
    def num_images(self) -> int:
        """Pictures so far."""
        return len(self._images)

    @property
    def num_annotations(self) -> int:
        """Detections so far."""
        return len(self._annotations)

    def add(self, file_name: str, width: int, height: int, detections: Detections) -> None:
        """Append one picture (size in pixels); image and annotation ids count from 1."""
        image_id = len(self._images) + 1
        self._images.append(
            {"id": image_id, "file_name": file_name, "width": width, "height": height}
        )
        self._annotations += detections.to_coco(image_id, first_id=len(self._annotations) + 1)

    def write(self, path: Path) -> None:
        """Write the file whole or not at all.

        Raises:
            UserError: it cannot be written.
        """
        data = {
            "images": self._images,
            "categories": self._categories,
            "annotations": self._annotations,
        }
        with atomic_output(path) as temporary:
            temporary.write_text(json.dumps(data, ensure_ascii=False), encoding="utf-8")
