"""The JSON file of ``detect``: COCO's layout, so that COCO tools read it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from runtime.files import atomic_output
from runtime.json_text import to_json


def write_coco(records: Iterable[dict[str, Any]], classes: Sequence[str], path: Path) -> None:
    """Write what was found in pictures and frames, whole or not at all.

    Args:
        records: of ``runtime.journal``; image, annotation and category ids count from 1.
        classes: names of all classes the model knows.
        path: file to write.

    Raises:
        UserError: it cannot be written.
    """
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for image_id, record in enumerate(records, 1):
        image = {"id": image_id, "file_name": record.get("image") or record["video"]}
        more = ("width", "height", "frame", "seconds")
        images.append(image | {key: record[key] for key in more if key in record})
        for detection in record["detections"]:
            ids = {"id": len(annotations) + 1, "image_id": image_id}
            annotations.append(ids | {k: v for k, v in detection.items() if k != "category"})
    categories = [{"id": i, "name": name} for i, name in enumerate(classes, 1)]
    data = {"images": images, "categories": categories, "annotations": annotations}
    with atomic_output(path) as temporary:
        temporary.write_bytes(to_json(data))
