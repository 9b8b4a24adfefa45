"""The result type."""

from __future__ import annotations

import html
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pandas
    import supervision

_ROWS_IN_HTML = 20


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

    def _repr_html_(self) -> str:
        """A table for notebooks: the best of them."""
        rows = "".join(
            f"<tr><td>{html.escape(record['category'])}</td><td>{record['score']:.2f}</td>"
            f"<td>{record['bbox']}</td></tr>"
            for record in self.select(np.arange(len(self)) < _ROWS_IN_HTML).records()
        )
        head = "<tr><th>category</th><th>score</th><th>x, y, width, height</th></tr>"
        return f"<p>{html.escape(repr(self))}</p><table>{head}{rows}</table>"

    def above(self, threshold: float) -> Detections:
        """Those with a score of ``threshold`` or more."""
        return self.select(self.scores >= threshold)

    def select(self, kept: NDArray[np.bool_]) -> Detections:
        """Those where ``kept`` (N,) is true."""
        return replace(
            self, boxes=self.boxes[kept], scores=self.scores[kept], labels=self.labels[kept]
        )

    def records(self) -> list[dict[str, Any]]:
        """The detections as JSON holds them.

        Returns:
            One dict per detection: ``category_id`` (label + 1), ``category`` (its name), ``bbox``
            (x, y, width, height in pixels, to 0.01) and ``score`` (to 0.00001).
        """
        x1, y1, x2, y2 = self.boxes.astype(float).T  # float64: rounds to short decimals
        bboxes = np.stack([x1, y1, x2 - x1, y2 - y1], axis=1).round(2).tolist()
        scores = self.scores.astype(float).round(5).tolist()
        return [
            {
                "category_id": label + 1,
                "category": self.classes[label],
                "bbox": bbox,
                "score": score,
            }
            for label, bbox, score in zip(self.labels.tolist(), bboxes, scores, strict=True)
        ]

    def to_coco(self, image_id: int, *, first_id: int = 1) -> list[dict[str, Any]]:
        """Annotations in COCO's result format.

        Args:
            image_id: id of the picture.
            first_id: id of the first annotation; the others count on.

        Returns:
            One dict per detection: ``id``, ``image_id``, ``category_id``, ``bbox`` and ``score``
            as in ``records``.
        """
        return [
            {"id": annotation_id, "image_id": image_id}
            | {key: record[key] for key in ("category_id", "bbox", "score")}
            for annotation_id, record in enumerate(self.records(), first_id)
        ]

    def to_pandas(self) -> pandas.DataFrame:
        """A row for each detection: x1, y1, x2, y2, score, label, category.

        Raises:
            ImportError: pandas is not installed.
        """
        import pandas as pd

        corners = dict(zip(("x1", "y1", "x2", "y2"), self.boxes.T, strict=True))
        names = np.array(self.classes, object)[self.labels]
        more = {"score": self.scores, "label": self.labels, "category": names}
        return pd.DataFrame(corners | more)

    def to_supervision(self) -> supervision.Detections:
        """As Roboflow's ``supervision`` has them, for its trackers and annotators.

        Raises:
            ImportError: supervision is not installed.
        """
        import supervision as sv

        names = np.array(self.classes)[self.labels]
        return sv.Detections(
            self.boxes,
            confidence=self.scores,
            class_id=self.labels,
            data={"class_name": names},
        )

    def draw(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """A copy of the picture, uint8 RGB (h, w, 3), with boxes and labels drawn in."""
        from runtime.draw import draw_detections

        return draw_detections(image, self)
