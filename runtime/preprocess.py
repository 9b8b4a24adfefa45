"""Pictures -> one batch of model input, as the checkpoint was trained and evaluated.

Letters: h, w a picture's size; B, H, W the model input's batch and size; all sizes in pixels.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from runtime.backend import ModelSpec
from runtime.errors import UserError
from runtime.gpu_picture import GpuPicture
from runtime.images import Image, checked_image
from runtime.shapes import SIZE_STEP


class Placement(NamedTuple):
    """The size of a picture, and what it takes of the input: from the top left, resized."""

    h: int
    w: int
    valid_h: int
    valid_w: int

    @property
    def scale(self) -> tuple[float, float]:
        """Resized width / original width, resized height / original height."""
        return self.valid_w / self.w, self.valid_h / self.h


@dataclass(frozen=True, slots=True, eq=False)
class PreparedBatch:
    """The two inputs of a model, and the way back to the pictures."""

    batch_inputs: NDArray[np.float32]
    """(B, 3, H, W) RGB, normalised, zero at the right and bottom of each picture."""
    img_masks: NDArray[np.float32]
    """(B, H, W), 0 on the picture, 1 on padding."""
    scales: list[tuple[float, float]]
    """Per picture: ``Placement.scale``."""


def prepare_batch(images: Sequence[Image | GpuPicture], spec: ModelSpec) -> PreparedBatch:
    """Resize, normalise, then pad.

    The order of mmdet's ``Resize`` and ``DetDataPreprocessor``: padding comes after
    normalisation, so a padded pixel is 0, the mean colour.

    Args:
        images: uint8 RGB (h, w, 3), at most ``spec.batch`` of them. A larger fixed batch is
            filled up with mean-coloured pictures.
        spec: the model's sizes and normalisation.

    Raises:
        UserError: a picture is not such an array or lies on the GPU, or there are none or too many.
    """
    rows = batch_of(images, spec)
    placements = [place(image, spec) for image in images]
    height, width = input_size(placements, spec)
    batch_inputs = np.zeros((rows, 3, height, width), np.float32)
    img_masks = np.zeros((rows, height, width), np.float32)
    mean = np.array(spec.metadata.mean, np.float32).reshape(3, 1, 1)
    std = np.array(spec.metadata.std, np.float32).reshape(3, 1, 1)
    for row, (image, placement) in enumerate(zip(images, placements, strict=True)):
        if isinstance(image, GpuPicture):
            raise UserError(
                "a picture lies on the GPU, and here the CPU prepares them; give a numpy array"
            )
        new_h, new_w = placement.valid_h, placement.valid_w
        resized = cv2.resize(image, (new_w, new_h), interpolation=cv2.INTER_LINEAR)
        # A view: a large picture is written once, straight into the batch.
        valid = batch_inputs[row, :, :new_h, :new_w]  # (3, new_h, new_w)
        np.subtract(resized.transpose(2, 0, 1), mean, out=valid)
        valid /= std
        img_masks[row, new_h:] = 1
        img_masks[row, :, new_w:] = 1
    return PreparedBatch(batch_inputs, img_masks, [placement.scale for placement in placements])


def batch_of(images: Sequence[Image | GpuPicture], spec: ModelSpec) -> int:
    """How many rows the model's input has for these pictures.

    Raises:
        UserError: there are none, or more than a fixed batch holds.
    """
    rows = spec.batch or len(images)
    if not 0 < len(images) <= rows:
        takes = f"1 to {spec.batch} pictures" if spec.batch else "one picture or more"
        raise UserError(f"the model takes {takes} at a time, got {len(images)}")
    return rows


def input_size(placements: Iterable[Placement], spec: ModelSpec) -> tuple[int, int]:
    """H and W of the input for these pictures.

    Where they are not fixed: the least multiples of ``SIZE_STEP`` that hold every picture.
    """
    if spec.metadata.sizes is None:
        return spec.height, spec.width
    height, width = spec.metadata.sizes.smallest
    for placement in placements:
        height = max(height, _whole_steps(placement.valid_h))
        width = max(width, _whole_steps(placement.valid_w))
    return height, width


def _whole_steps(pixels: int) -> int:
    return -(-pixels // SIZE_STEP) * SIZE_STEP


def place(image: Image | GpuPicture, spec: ModelSpec) -> Placement:
    """Where a picture comes to lie.

    It keeps its aspect ratio, unless the model has no mask: then it is stretched to H x W, because
    padding would count as picture.

    Raises:
        UserError: it is not uint8 (h, w, 3).
    """
    h, w = checked_image(image).shape[:2]
    if spec.has_mask:
        return Placement(h, w, *_fitted_size(h, w, spec))
    return Placement(h, w, spec.height, spec.width)


def _fitted_size(h: int, w: int, spec: ModelSpec) -> tuple[int, int]:
    """Largest size of the same aspect ratio within H x W, rounded as ``mmcv.rescale_size``.

    mmcv would round a side of an extremely long picture to 0 pixels; here it stays 1.
    """
    scale = min(spec.height / h, spec.width / w)
    return max(1, int(h * scale + 0.5)), max(1, int(w * scale + 0.5))
