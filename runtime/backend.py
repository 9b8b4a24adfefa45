"""What the detector needs of a loaded model, and the choice of the backend by the file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from runtime.errors import UserError
from runtime.gpu_picture import GpuPicture
from runtime.json_text import parse_json
from runtime.shapes import ShapeRange, size_range

_LARGEST_PIXEL = 10_000
"""Means and standard deviations of pixels are far below."""
_MOST_PIXELS = 2**30
"""Of an input: 12 GiB of float32. What the largest exports have is 8192 x 8192."""


class TensorInfo(NamedTuple):
    """Type of one input or output, as its file states it."""

    dtype: str
    """numpy name, e.g. ``float32``."""
    shape: tuple[int | None, ...]
    """None where dynamic."""

    def __str__(self) -> str:
        """E.g. ``float32(?, 3, 1280, 1920)``."""
        return f"{self.dtype}({', '.join('?' if n is None else str(n) for n in self.shape)})"


@dataclass(frozen=True, slots=True)
class ModelMetadata:
    """What a file says about its model beyond the tensors (written by ``onnx_export``)."""

    preset: str
    precision: str
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    """RGB, of pixels in 0..255."""
    std: tuple[float, ...]
    sizes: ShapeRange | None = None
    """Height and width that inputs of any size may have; None where they are fixed."""

    @classmethod
    def from_json(cls, text: str) -> ModelMetadata:
        """Parse the value of the metadata entry ``codetr``.

        Raises:
            ValueError: it is not JSON, misses an entry, or one of them makes no sense.
        """
        try:
            data = parse_json(text)
            metadata = cls(
                preset=data["preset"],
                precision=data["precision"],
                classes=tuple(data["classes"]),
                mean=tuple(map(float, data["preprocess"]["mean"])),
                std=tuple(map(float, data["preprocess"]["std"])),
                sizes=size_range(data),
            )
        except (KeyError, TypeError, OverflowError) as error:
            raise ValueError(f"metadata entry 'codetr' is incomplete: {error}") from error
        metadata._check()
        return metadata

    def _check(self) -> None:
        names = (self.preset, self.precision, *self.classes)
        if not self.classes or not all(isinstance(name, str) for name in names):
            raise ValueError("metadata entry 'codetr' has names that are not text, or no classes")
        if not len(self.mean) == len(self.std) == 3:
            raise ValueError("metadata entry 'codetr' has other than three values for mean or std")
        # NaN is refused too: it compares as false.
        if not all(abs(m) < _LARGEST_PIXEL for m in self.mean) or not all(
            1 / _LARGEST_PIXEL < s < _LARGEST_PIXEL for s in self.std
        ):
            raise ValueError(
                f"metadata entry 'codetr' has mean {self.mean} and std {self.std}, which are not "
                "of pixels in 0..255"
            )


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """The file's contract."""

    height: int
    """Of the input, in pixels; of the largest, where ``metadata.sizes`` is a range."""
    width: int
    batch: int | None
    """Pictures per inference; None: any number."""
    has_mask: bool
    """False: the picture fills the input, there is no padding."""
    metadata: ModelMetadata

    @classmethod
    def from_tensors(
        cls,
        inputs: Mapping[str, TensorInfo],
        outputs: Mapping[str, TensorInfo],
        metadata: ModelMetadata,
    ) -> ModelSpec:
        """Read the contract off a file's inputs and outputs.

        Raises:
            ValueError: they are not those of a Co-DETR model; says which were found.
        """
        info = inputs.get("batch_inputs")
        match info, metadata.sizes:
            case TensorInfo("float32", (batch, 3, int(height), int(width))), None:
                pass
            case TensorInfo("float32", (batch, 3, None, None)), (_, (height, width)):
                pass
            case _:
                raise ValueError(_listed(inputs, outputs))
        if min(height, width) < 1 or (batch or 1) * height * width > _MOST_PIXELS:
            raise ValueError(f"its input is {info}: none, or too large")
        expected = {"batch_inputs": info}
        if has_mask := "img_masks" in inputs:
            expected["img_masks"] = TensorInfo("float32", (batch, *info.shape[2:]))
        if inputs != expected or not _is_detector(outputs):
            raise ValueError(_listed(inputs, outputs))
        return cls(height, width, batch, has_mask, metadata)


def _listed(inputs: Mapping[str, TensorInfo], outputs: Mapping[str, TensorInfo]) -> str:
    found = ", ".join(f"{name} {info}" for name, info in [*inputs.items(), *outputs.items()])
    return f"its inputs and outputs are {found}"


def _is_detector(outputs: Mapping[str, TensorInfo]) -> bool:
    dtypes_and_ranks = {name: (info.dtype, len(info.shape)) for name, info in outputs.items()}
    return dtypes_and_ranks == {
        "boxes": ("float32", 3),
        "scores": ("float32", 2),
        "labels": ("int64", 2),
    }


class RawOutputs(NamedTuple):
    """A model's outputs, before rescaling and NMS."""

    boxes: NDArray[np.float32]
    """(B, N, 4) x1 y1 x2 y2 in pixels of the input, clipped to the picture."""
    scores: NDArray[np.float32]
    """(B, N), highest first."""
    labels: NDArray[np.int64]
    """(B, N)."""


class Model(Protocol):
    """A loaded model; whoever opens it closes it."""

    @property
    def spec(self) -> ModelSpec:
        """The file's contract."""

    @property
    def backend(self) -> str:
        """Name and version of the library that runs it, e.g. ``tensorrt 10.6.0``."""

    @property
    def concurrency(self) -> int:
        """How many threads have to call it for it to be busy all the time."""

    def infer(
        self, batch_inputs: NDArray[np.float32], img_masks: NDArray[np.float32]
    ) -> RawOutputs:
        """Run the model on one batch.

        Args:
            batch_inputs: (B, 3, H, W), normalised RGB; B is ``spec.batch`` if that is fixed.
            img_masks: (B, H, W), 0 picture, 1 padding; not used if ``spec.has_mask`` is false.
        """

    def infer_images(self, images: Sequence[NDArray[np.uint8] | GpuPicture]) -> RawOutputs:
        """Preprocess pictures and run the model on them.

        Args:
            images: uint8 RGB (h, w, 3) of any sizes; at most ``spec.batch`` of them.

        Returns:
            A row for each picture, and for whatever fills up a larger fixed batch.

        Raises:
            UserError: a picture is not such an array, or there are too many.
        """

    def close(self) -> None:
        """Give back what the model holds; harmless when called again."""


def needs_gpu(path: Path) -> bool:
    """Whether a model file is run on a GPU, which its suffix decides.

    Raises:
        UserError: there is no such file, or no backend runs it.
    """
    if not path.is_file():
        raise UserError(f"no model file {path}; give a .ref.onnx or a .engine")
    suffix = path.suffix.lower()
    if suffix not in (".onnx", ".engine"):
        raise UserError(f"cannot run {path}: its suffix is neither .onnx nor .engine")
    return suffix == ".engine"


def open_model(path: str | Path) -> Model:
    """Load a model with the backend its file is made for.

    Raises:
        UserError: there is no such file, no backend runs it, or it is not a Co-DETR model.
    """
    path = Path(path)
    if not needs_gpu(path):
        from runtime.onnxruntime_backend import OnnxRuntimeModel

        return OnnxRuntimeModel(path)
    try:
        from runtime.tensorrt_backend import TensorRTModel
    except ImportError as error:
        raise UserError(
            f"cannot run {path}: engines need cuda-python ({error}); "
            "pip install cuda-bindings, or run the reference graph (.ref.onnx)"
        ) from error
    return TensorRTModel(path)
