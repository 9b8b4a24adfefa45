"""One model in several input sizes: a folder of files, and the best of them for a picture.

Engines of fixed size are the fastest. A few of them, such as 1280x1920, 1920x1280 and 1280x1280,
serve pictures of every shape without much padding.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from runtime.backend import ModelSpec
from runtime.errors import UserError

_AS_LARGE = 0.99
"""Scales above this part of the largest one count as just as large."""


def model_files(path: Path) -> list[Path]:
    """The file itself; of a folder its engines, or its reference graphs if it holds no engine.

    Raises:
        UserError: a folder without either.
    """
    if not path.is_dir():
        return [path]
    files = sorted(path.glob("*.engine")) or sorted(path.glob("*.ref.onnx"))
    if not files:
        raise UserError(f"no .engine and no .ref.onnx in folder {path}; give a model file")
    return files


def require_same_model(specs: Mapping[Path, ModelSpec]) -> None:
    """Refuse files that differ in more than their input's size.

    Raises:
        UserError: names two of them and in what they differ, or two of the same size.
    """
    (first, like), *others = specs.items()
    seen = {(like.height, like.width): first}
    for path, spec in others:
        for name in ("preset", "precision", "classes", "mean", "std"):
            if getattr(spec.metadata, name) != getattr(like.metadata, name):
                raise UserError(
                    f"{first} and {path} are not one model in two sizes: they differ in {name}; "
                    "move one to another folder"
                )
        size = spec.height, spec.width
        if size in seen:
            raise UserError(
                f"{seen[size]} and {path} have the same size {spec.height}x{spec.width}; keep one"
            )
        seen[size] = path


def best_size(height: int, width: int, specs: Sequence[ModelSpec]) -> int:
    """Which of the inputs suits a picture: where it is largest, with the least padding.

    Args:
        height: of the picture, in pixels.
        width: of the picture, in pixels.
        specs: of the inputs.

    Returns:
        Index of the one with the fewest pixels among those where the picture is as large as it
        can be (within 1 %).
    """
    scales = [min(spec.height / height, spec.width / width) for spec in specs]
    large = [index for index, scale in enumerate(scales) if scale >= _AS_LARGE * max(scales)]
    return min(large, key=lambda index: specs[index].height * specs[index].width)
