"""The result type."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Detections:
    """Detections of one picture, best first."""

    boxes: NDArray[np.float32]
    """(N, 4) x1 y1 x2 y2 in pixels of the original picture."""
    scores: NDArray[np.float32]
    """(N,) in 0..1."""
    labels: NDArray[np.int64]
    """(N,) 0-based indices into ``classes``."""
    classes: tuple[str, ...]
    """Names of all classes the model knows."""

    def __post_init__(self) -> None:
        """Check shapes, dtypes and labels.

        Raises:
            ValueError: they do not fit together.
        """
        n = len(self.boxes)
        expected = {"boxes": ((n, 4), "float32"), "scores": ((n,), "float32")}
        expected["labels"] = ((n,), "int64")
        for name, (shape, dtype) in expected.items():
            array = getattr(self, name)
            if array.shape != shape or array.dtype != dtype:
                raise ValueError(f"{name} must be {dtype} {shape}, got {array.dtype} {array.shape}")
        if n and not 0 <= self.labels.min() <= self.labels.max() < len(self.classes):
            raise ValueError(
                f"labels must be in 0..{len(self.classes) - 1}, "
                f"got {self.labels.min()}..{self.labels.max()}"
            )

    def __len__(self) -> int:
        """Number of detections."""
        return len(self.boxes)

    def __repr__(self) -> str:
        """Counts, not data."""
        names, counts = np.unique(np.array(self.classes)[self.labels], return_counts=True)
        found = ", ".join(f"{count} {name}" for name, count in zip(names, counts, strict=True))
        return f"Detections({len(self)}{': ' if found else ''}{found})"

    def above(self, threshold: float) -> Detections:
        """Those with a score of ``threshold`` or more."""
        return self.select(self.scores >= threshold)

    def select(self, kept: NDArray[np.bool_]) -> Detections:
        """Those where ``kept`` (N,) is true."""
        return replace(
            self, boxes=self.boxes[kept], scores=self.scores[kept], labels=self.labels[kept]
        )

    def to_coco(self, image_id: int, *, first_id: int = 1) -> list[dict[str, Any]]:
        """Annotations in COCO's result format.

        Args:
            image_id: id of the picture.
            first_id: id of the first annotation; the others count on.

        Returns:
            One dict per detection: ``id``, ``image_id``, ``category_id`` (label + 1), ``bbox``
            (x, y, width, height in pixels, to 0.01) and ``score`` (to 0.00001).
        """
        x1, y1, x2, y2 = self.boxes.astype(float).T  # float64: rounds to short decimals
        bboxes = np.stack([x1, y1, x2 - x1, y2 - y1], axis=1).round(2).tolist()
        scores = self.scores.astype(float).round(5).tolist()
        rows = zip(bboxes, scores, self.labels.tolist(), strict=True)
        return [
            {
                "id": annotation_id,
                "image_id": image_id,
                "category_id": label + 1,
                "bbox": bbox,
                "score": score,
            }
            for annotation_id, (bbox, score, label) in enumerate(rows, first_id)
        ]
