"""Some pictures with their boxes and labels, side by side, for people to look at."""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from codetr.training.dataset import SIDES, Picture
from codetr.training.digits import CLASSES

PICTURES = 12
"""On a sheet."""
_COLUMNS = 4
_GAP = 8
_PAPER, _BOX, _TEXT = 255, (255, 0, 0), (255, 255, 0)
Image = npt.NDArray[np.uint8]


def contact_sheet(pictures: Sequence[Picture]) -> Image:
    """RGB picture of all, pixel by pixel."""
    side = SIDES[1] + _GAP
    rows = -(-len(pictures) // _COLUMNS)
    columns = min(len(pictures), _COLUMNS)
    sheet = np.full((rows * side, columns * side, 3), _PAPER, np.uint8)
    for number, picture in enumerate(pictures):
        y, x = number // _COLUMNS * side, number % _COLUMNS * side
        height, width = picture.image.shape[:2]
        sheet[y : y + height, x : x + width] = _annotated(picture)
    return sheet


def _annotated(picture: Picture) -> Image:
    canvas = picture.image.copy()
    for label, box in zip(picture.labels, picture.boxes, strict=True):
        # Around the box, so that its outermost pixels can be seen.
        x1, y1, x2, y2 = (*map(math.floor, box[:2]), *map(math.ceil, box[2:]))
        cv2.rectangle(canvas, (x1 - 1, y1 - 1), (x2, y2), _BOX, 1)
        corner = (x1, y1 - 3 if y1 > 15 else y2 + 15)
        cv2.putText(canvas, CLASSES[label], corner, cv2.FONT_HERSHEY_SIMPLEX, 0.5, _TEXT, 1)
    return canvas
