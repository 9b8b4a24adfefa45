"""Pictures from and to files: uint8 RGB arrays (h, w, 3)."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from runtime.errors import UserError
from runtime.files import atomic_output
from runtime.gpu_picture import GpuPicture
from runtime.image_header import picture_size

Image = NDArray[np.uint8]
AnyPicture = TypeVar("AnyPicture", Image, GpuPicture, Image | GpuPicture)

MAX_PIXELS = 2**28
"""Of a picture: 268 megapixels, 0.8 GB as RGB. The largest cameras have 200 (16384 x 12288)."""
MAX_SIDE = 2**16
"""Of a picture, in pixels: JPEG's own limit."""


def read_image(path: str | Path) -> Image:
    """Decode a picture file, see ``decode_image``.

    Returns:
        uint8 RGB (h, w, 3).

    Raises:
        UserError: the file is missing, unreadable, empty, cut short or not a picture.
    """
    try:
        # Not cv2.imread: it fills the missing part of a cut JPEG with grey.
        encoded = Path(path).read_bytes()
    except OSError as error:
        raise UserError(f"cannot read picture {path}: {error.strerror}") from error
    return decode_image(encoded, str(path))


def decode_image(encoded: bytes, name: str) -> Image:
    """Decode a picture as MMDetection's ``LoadImageFromFile`` does with its cv2 backend.

    Grey, RGBA and 16-bit pictures become 8-bit colour, the EXIF orientation is applied.

    Args:
        encoded: what a picture file holds: BMP, JPEG, PNG, TIFF or WebP.
        name: of the picture, for messages.

    Returns:
        uint8 RGB (h, w, 3).

    Raises:
        UserError: the bytes are none, cut short or not a picture, or it has more than
            ``MAX_PIXELS`` pixels or a side longer than ``MAX_SIDE``.
    """
    if not encoded:
        raise UserError(f"cannot read picture {name}: the file is empty")
    size = picture_size(encoded)
    if size is not None:
        _require_moderate(*size, name)
    try:
        # Other formats are not tried: their size is not known before they are decoded.
        image = size and cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error as error:
        raise UserError(f"cannot decode picture {name}: {error.err}") from error
    if image is None:
        raise UserError(
            f"cannot decode picture {name}: not a picture (BMP, JPEG, PNG, TIFF or WebP), or cut "
            "short"
        )
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB).astype(np.uint8, copy=False)


def _require_moderate(width: int, height: int, name: str) -> None:
    """Refuse what would take gigabytes to decode."""
    if max(width, height) > MAX_SIDE or width * height > MAX_PIXELS:
        raise UserError(
            f"picture {name} has {width} x {height} pixels, more than the {MAX_PIXELS} in all or "
            f"{MAX_SIDE} a side that are decoded; make it smaller"
        )


def write_image(path: Path, image: Image) -> None:
    """Write a picture whole or not at all; the suffix chooses the format.

    Args:
        path: file to write, e.g. ``*.png`` or ``*.jpg``.
        image: uint8 RGB (h, w, 3).

    Raises:
        UserError: the file cannot be written.
    """
    _, encoded = cv2.imencode(path.suffix, cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    with atomic_output(path) as temporary:
        temporary.write_bytes(encoded.tobytes())


def checked_image(image: AnyPicture) -> AnyPicture:
    """Return ``image`` if it is what the model's preprocessing takes.

    Raises:
        UserError: it is not a uint8 array (h, w, 3) with at least one pixel.
    """
    if isinstance(image, GpuPicture):  # has looked at itself
        return image
    if not isinstance(image, np.ndarray):
        got = type(image).__name__
    elif image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        got = f"{image.dtype} {image.shape}"
    else:
        return image
    raise UserError(f"a picture must be a uint8 RGB array (h, w, 3), got {got}")
