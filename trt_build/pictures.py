"""Pictures to verify with where none are given: of structure, since noise excites no detector."""

from __future__ import annotations

import numpy as np

from runtime.images import Image

_SHAPES = 12


def generated_pictures(height: int, width: int) -> dict[str, Image]:
    """Two pictures, a wide and a tall one, so that each leaves padding at another side.

    Args:
        height: of the model's input.
        width: of the model's input.

    Returns:
        Name to uint8 RGB (h, w, 3).
    """
    sizes = {"generated, wide": (height // 2, width), "generated, tall": (height, width // 2)}
    return {name: _picture(h, w, seed) for seed, (name, (h, w)) in enumerate(sizes.items())}


def _picture(height: int, width: int, seed: int) -> Image:
    """Ellipses and rectangles of many sizes before a colour that changes slowly."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width] / np.array([height, width]).reshape(2, 1, 1)  # 0..1
    corners = random.uniform(40, 215, (3, 3))  # colours of three corners
    picture = corners[0] + x[..., None] * (corners[1] - corners[0])
    picture += y[..., None] * (corners[2] - corners[0])
    for index in range(_SHAPES):
        across, down = (x, y) - random.uniform(0, 1, (2, 1, 1))
        half_width, half_height = random.uniform(0.03, 0.25, 2)
        across, down = np.abs(across / half_width), np.abs(down / half_height)
        inside = np.maximum(across, down) < 1 if index % 2 else across**2 + down**2 < 1
        shade = 1 - 0.4 * down[inside, None]  # darker to its upper and lower edge
        picture[inside] = random.uniform(0, 255, 3) * shade
    return np.clip(picture, 0, 255).astype(np.uint8)
