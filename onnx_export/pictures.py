"""Pictures from a folder as the model takes them: what ``runtime`` does, for calibration."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from codetr.errors import UserError
from codetr.presets import PIXEL_MEAN, PIXEL_STD

SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
MOST = 64
"""Pictures taken of a folder; the largest value of a layer hardly grows after some dozens."""


def chosen_pictures(folder: Path) -> list[Path]:
    """Up to ``MOST`` pictures of a folder, evenly spaced in the order of their names.

    Raises:
        UserError: there is none, or the folder cannot be read.
    """
    try:
        files = sorted(file for file in folder.iterdir() if file.suffix.lower() in SUFFIXES)
    except OSError as error:
        raise UserError(f"cannot read folder {folder}: {error.strerror}") from error
    if not files:
        raise UserError(f"no pictures in folder {folder}; looked for files named {SUFFIXES}")
    count = min(len(files), MOST)
    return [files[i * len(files) // count] for i in range(count)]


def read_inputs(files: list[Path], size: tuple[int, int]) -> Iterator[tuple[Tensor, Tensor]]:
    """Decode, resize and normalise one picture after the other.

    Args:
        files: pictures.
        size: height H and width W of the padded input.

    Yields:
        (1, 3, H, W) float32 and the mask (1, H, W): the arguments of ``CoDino.forward``.

    Raises:
        UserError: a file is not a picture.
    """
    for file in files:
        yield _prepare(_read(file), *size)


def _read(file: Path) -> np.ndarray:
    """(h, w, 3) uint8 RGB."""
    try:
        image = cv2.imread(str(file), cv2.IMREAD_COLOR)
    except cv2.error:  # more pixels than OpenCV's limit
        image = None
    if image is None:
        raise UserError(f"cannot read picture {file}; remove it or choose another folder")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def _prepare(image: np.ndarray, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Keep the aspect ratio, normalise, then pad: at the right and the bottom, with zeros."""
    h, w = image.shape[:2]
    scale = min(height / h, width / w)
    h, w = max(1, int(h * scale + 0.5)), max(1, int(w * scale + 0.5))
    resized = cv2.resize(image, (w, h), interpolation=cv2.INTER_LINEAR)
    pixels = (resized - np.array(PIXEL_MEAN, np.float32)) / np.array(PIXEL_STD, np.float32)
    inputs, mask = torch.zeros(1, 3, height, width), torch.ones(1, height, width)
    inputs[0, :, :h, :w] = torch.from_numpy(pixels).permute(2, 0, 1)
    mask[0, :h, :w] = 0
    return inputs, mask
