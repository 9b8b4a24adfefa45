"""Detections drawn into a picture."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence

import cv2

from runtime.detections import Detections
from runtime.images import Image

_FONT = cv2.FONT_HERSHEY_SIMPLEX
_FAR = 2**17
"""Farther than any picture goes; OpenCV fails where coordinates are not 32 bits."""
_GOLDEN_RATIO = 0.618034

Colour = tuple[int, int, int]


def draw_detections(image: Image, detections: Detections) -> Image:
    """Copy of ``image`` with boxes and labels; their size goes with the picture's.

    Args:
        image: uint8 RGB (h, w, 3).
        detections: of this picture; drawn worst first, so that the best stays on top.
    """
    canvas = image.copy()
    line = max(1, round(min(canvas.shape[:2]) / 350))
    worst_first = range(len(detections))[::-1]
    corners = detections.boxes.clip(-_FAR, _FAR).round().astype(int).tolist()
    colours = [class_colour(label) for label in detections.labels.tolist()]
    for index in worst_first:
        x1, y1, x2, y2 = corners[index]
        cv2.rectangle(canvas, (x1, y1), (x2, y2), colours[index], line)
    for index in worst_first:  # after all boxes, so that no line crosses a text
        text = f"{detections.classes[detections.labels[index]]} {detections.scores[index]:.2f}"
        _draw_label(canvas, text, corners[index][:2], colours[index], line)
    return canvas


def class_colour(label: int) -> Colour:
    """RGB of a class: hues a golden ratio apart, so that neighbouring classes differ."""
    hue = label * _GOLDEN_RATIO % 1
    # Three shades, because 80 hues alone cannot be told apart.
    saturation, value = ((0.75, 1.0), (0.95, 0.8), (0.5, 1.0))[label % 3]
    r, g, b = colorsys.hsv_to_rgb(hue, saturation, value)
    return round(r * 255), round(g * 255), round(b * 255)


def _draw_label(canvas: Image, text: str, corner: Sequence[int], colour: Colour, line: int) -> None:
    """Text on a filled background, above the box's top left corner, inside the picture."""
    scale, thickness = 0.25 + 0.2 * line, max(1, round(line / 2))
    (text_w, text_h), descent = cv2.getTextSize(text, _FONT, scale, thickness)
    margin = 1 + line
    label_w, label_h = text_w + 2 * margin, text_h + descent + 2 * margin
    x = max(0, min(corner[0] - line // 2, canvas.shape[1] - label_w))
    y = max(0, corner[1] - label_h)
    cv2.rectangle(canvas, (x, y), (x + label_w, y + label_h), colour, cv2.FILLED)
    baseline = (x + margin, y + margin + text_h)
    cv2.putText(canvas, text, baseline, _FONT, scale, _ink_on(colour), thickness, cv2.LINE_AA)


def _ink_on(background: Colour) -> Colour:
    """Black on bright colours, white on dark ones (luma of ITU-R BT.601)."""
    r, g, b = background
    return (0, 0, 0) if 0.299 * r + 0.587 * g + 0.114 * b > 140 else (255, 255, 255)
