"""Picture in, detections out."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, cast, overload

import numpy as np

from runtime.backend import Model, RawOutputs, open_model
from runtime.closing import Closing
from runtime.detections import Detections
from runtime.errors import UserError
from runtime.gpu_picture import GpuPicture, SharedArray, is_on_gpu
from runtime.images import Image, checked_image, read_image
from runtime.parallel import batches, in_order
from runtime.postprocess import NMS_MODES, Floats, Indices, NmsMode, nms, rescale_boxes
from runtime.preprocess import place
from runtime.sizes import best_size, model_files, require_same_model

Picture = Image | SharedArray | str | Path
"""uint8 RGB (h, w, 3), on the GPU too, or the path of a picture file."""


class Detector(Closing):
    """A Co-DETR model file, ready to detect; the file decides the backend and all sizes.

    A folder of files of one model in several sizes serves too: each picture goes to the one that
    suits it best, see ``runtime.sizes.best_size``.

    One detector may serve several threads: with ONNX Runtime at once; with an engine, the pictures
    of one are copied to the GPU while those of another are worked on.

    Example:
        >>> with Detector("model.ref.onnx") as detector:
        ...     confident = detector("street.jpg").above(0.3)
    """

    def __init__(
        self, model: str | Path | Model, *, nms: NmsMode = "soft", max_batch: int = 1
    ) -> None:
        """Load the model.

        Args:
            model: model file, see ``runtime.backend.open_model``; a folder of them; or a loaded
                model, which the detector then closes.
            nms: see ``runtime.postprocess.nms``.
            max_batch: most pictures per inference where the model takes any number. One by
                default: at 1280 x 1920 in float32 one layer of the encoder alone holds 1.7 GB
                per picture (204,600 tokens x 2,048 channels).

        Raises:
            UserError: a file cannot be run, a folder holds several models, or there is no such
                NMS.
        """
        if nms not in NMS_MODES:
            raise UserError(f"nms must be one of {', '.join(NMS_MODES)}, got {nms!r}")
        self.models = _opened(Path(model)) if isinstance(model, str | Path) else [model]
        """The loaded model, in each of its sizes."""
        self.model = self.models[0]
        """The only one, or the first of several sizes."""
        self._nms: NmsMode = nms
        self.batch = max(model.spec.batch or max_batch for model in self.models)
        """Most pictures per inference."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes the model knows."""
        return self.model.spec.metadata.classes

    # mypy: a str is a sequence of str too; here it always is a path.
    @overload
    def __call__(self, images: Picture) -> Detections: ...  # type: ignore[overload-overlap]
    @overload
    def __call__(self, images: Sequence[Picture]) -> list[Detections]: ...
    def __call__(self, images: Picture | Sequence[Picture]) -> Detections | list[Detections]:
        """Detect in one picture or in several.

        Args:
            images: uint8 RGB (h, w, 3) of any strides, BGR as ``image[..., ::-1]``, or the path of
                a picture file; or a sequence of these, of any sizes. With an engine also tensors
                on the GPU, contiguous; they are read where they are, once what writes them is
                done.

        Returns:
            Detections in pixels of the picture; for a sequence, a list in the same order.

        Raises:
            UserError: a picture is neither, or its file cannot be read.
        """
        if isinstance(images, str | Path | np.ndarray) or is_on_gpu(images):
            return self._detect([_loaded(images)])[0]
        return [
            detections
            for group in batches(cast("Sequence[Picture]", images), self.batch)
            for detections in self._detect([_loaded(image) for image in group])
        ]

    def stream(self, images: Iterable[Picture]) -> Iterator[tuple[Any, Detections]]:
        """Detect in pictures as they come, and work ahead: the GPU need not wait for Python.

        Args:
            images: uint8 RGB (h, w, 3) or paths of picture files, of any sizes and number; taken
                in another thread as they are needed.

        Yields:
            Each picture with its detections, in the order of the pictures: the array that came, or
            what the file holds.

        Raises:
            UserError: a picture is neither, or its file cannot be read.
        """

        def detect(pictures: list[Picture]) -> list[tuple[Any, Detections]]:
            batch = [_loaded(picture) for picture in pictures]
            arrays = [image.array if isinstance(image, GpuPicture) else image for image in batch]
            return list(zip(arrays, self._detect(batch), strict=True))

        groups = batches(images, self.batch)
        for found in in_order(detect, groups, workers=self.model.concurrency):
            yield from found

    def _detect(self, images: Sequence[Image | GpuPicture]) -> list[Detections]:
        """Detections of at most ``batch`` pictures, each in the size that suits it."""
        specs = [model.spec for model in self.models]
        sizes = [checked_image(image).shape for image in images]
        chosen = [best_size(height, width, specs) for height, width, _ in sizes]
        found: dict[int, Detections] = {}
        for index, model in enumerate(self.models):
            rows = [row for row, size in enumerate(chosen) if size == index]
            for part in batches(rows, model.spec.batch or self.batch):
                of_part = self._detect_batch(model, [images[row] for row in part])
                found |= zip(part, of_part, strict=True)
        return [found[row] for row in range(len(images))]

    def _detect_batch(self, model: Model, images: Sequence[Image | GpuPicture]) -> list[Detections]:
        outputs = model.infer_images(images)
        boxes, scores, labels = outputs
        rows = min(boxes.shape[:1], scores.shape[:1], labels.shape[:1])  # () of a scalar
        if rows < (len(images),):
            raise nonsense(f"rows {rows} for {len(images)} pictures")
        return self.postprocess(outputs, [place(image, model.spec).scale for image in images])

    def postprocess(
        self, outputs: RawOutputs, scales: Sequence[tuple[float, float]]
    ) -> list[Detections]:
        """What a model put out for a prepared batch -> detections of each picture.

        Args:
            outputs: of ``runtime.backend.Model.infer``.
            scales: ``runtime.preprocess.Placement.scale`` of each picture.
        """
        # Not strict: the rows that only fill up a fixed batch have no scale and end the zip.
        return [
            self._detections(boxes, scores, labels, scale)
            for boxes, scores, labels, scale in zip(*outputs, scales, strict=False)
        ]

    def _detections(
        self, boxes: Floats, scores: Floats, labels: Indices, scale: tuple[float, float]
    ) -> Detections:
        """Outputs of one row, (N, 4), (N,), (N,) -> detections of its picture."""
        _require_sense(boxes, scores, labels, self.classes)
        boxes = rescale_boxes(boxes, scale)
        # Rescaled first: the offsets that keep classes apart in NMS depend on the largest box.
        kept, scores = nms(boxes, scores, labels, mode=self._nms)
        return Detections(boxes[kept], scores, labels[kept], self.classes)

    def close(self) -> None:
        """Give back what the models hold; the detector cannot be used any more."""
        with contextlib.ExitStack() as stack:  # closes all, also if one of them fails
            for model in self.models:
                stack.callback(model.close)


def _require_sense(boxes: Floats, scores: Floats, labels: Indices, classes: Sequence[str]) -> None:
    """Refuse what no intact model of ours puts out for a picture: a damaged file may.

    Raises:
        UserError: says what it is.
    """
    n = len(scores)
    if boxes.shape != (n, 4) or scores.shape != (n,) or labels.shape != (n,):
        shapes = f"{boxes.shape}, {scores.shape} and {labels.shape}"
        raise nonsense(f"boxes, scores and labels of the shapes {shapes}")
    if n and not 0 <= labels.min() <= labels.max() < len(classes):
        raise nonsense(f"labels {labels.min()} to {labels.max()} for {len(classes)} classes")


def nonsense(what: str) -> UserError:
    """The error about outputs that no intact model has."""
    return UserError(
        f"the model puts out {what}; its file is damaged, or in a precision it does not bear"
    )


def _loaded(picture: Picture) -> Image | GpuPicture:
    if isinstance(picture, str | Path):
        return read_image(picture)
    return GpuPicture(picture) if is_on_gpu(picture) else cast("Image", picture)


def _opened(path: Path) -> list[Model]:
    """The model of a file, or the models of a folder."""
    with contextlib.ExitStack() as stack:
        models = {}
        for file in model_files(path):
            models[file] = open_model(file)
            stack.callback(models[file].close)
        require_same_model({file: model.spec for file, model in models.items()})
        stack.pop_all()
    return list(models.values())
