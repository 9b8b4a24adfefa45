"""What shapes an engine's inputs may have, and which follow from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

SIZE_STEP = 32
"""Heights and widths of an input of any size are multiples, in pixels."""
Shapes = dict[str, tuple[int, ...]]


class ShapeRange(NamedTuple):
    """The shapes that one input takes, each size for itself."""

    smallest: tuple[int, ...]
    largest: tuple[int, ...]

    def holds(self, shape: tuple[int, ...]) -> bool:
        """Whether the input takes this shape."""
        return len(shape) == len(self.largest) and all(
            low <= size <= high
            for low, size, high in zip(self.smallest, shape, self.largest, strict=True)
        )

    def __str__(self) -> str:
        """E.g. ``(1 to 8, 3, 1280, 1920)``."""
        sizes = zip(self.smallest, self.largest, strict=True)
        return f"({', '.join(f'{n}' if n == m else f'{n} to {m}' for n, m in sizes)})"


def size_range(model: Mapping[str, Any]) -> ShapeRange | None:
    """Height and width that an input of any size may have; None where they are fixed.

    Args:
        model: what the exporter said of the model; there, each is a number or two in a list.

    Raises:
        ValueError: these are no sizes.
    """
    height, width = model.get("height"), model.get("width")
    if not isinstance(height, list):
        return None
    match height, width:
        case [int(low_h), int(high_h)], [int(low_w), int(high_w)]:
            sizes = ShapeRange((low_h, low_w), (high_h, high_w))
            steps = all(size % SIZE_STEP == 0 for size in (*sizes.smallest, *sizes.largest))
            if steps and min(sizes.smallest) > 0 and sizes.holds(sizes.smallest):
                return sizes
    raise ValueError(f"its height is {height} and its width {width}")


@dataclass(slots=True)
class Run:
    """What follows from the shapes of the inputs, and lasts until they change."""

    inputs: Shapes
    shapes: Shapes
    """Of the outputs too."""
    nbytes: dict[str, int]
    enqueued: bool = False
    """Whether there was a run of these shapes."""
    graph: Any = None
    """The kernels as a CUDA graph, once they were captured."""


def listed(shapes: Mapping[str, tuple[int, ...]]) -> str:
    """E.g. ``batch_inputs (2, 3, 8, 8), img_masks (1, 8, 8)``."""
    return ", ".join(f"{name} {shape}" for name, shape in shapes.items())
