"""The model ``codetr``: pictures in, detections out. Runs inside Triton's Python backend."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import chain, islice
from typing import Any

import numpy as np
import triton_python_backend_utils as triton
from numpy.typing import NDArray

from runtime.backend import ModelSpec, RawOutputs
from runtime.detections import Detections
from runtime.detector import Detector
from runtime.errors import UserError
from runtime.gpu_picture import GpuPicture
from runtime.images import Image, checked_image, decode_image
from runtime.preprocess import prepare_batch
from runtime.triton import NETWORK
from runtime.triton.settings import Settings


class NetworkModel:
    """A ``runtime.backend.Model``: the model ``codetr_network`` of the same server."""

    backend = "triton"
    concurrency = 1

    def __init__(self, spec: ModelSpec) -> None:
        """Nothing is loaded: the server has done that."""
        self.spec = spec

    def infer(
        self, batch_inputs: NDArray[np.float32], img_masks: NDArray[np.float32]
    ) -> RawOutputs:
        """Run one batch; see ``runtime.backend.Model``.

        Raises:
            TritonModelException: the server could not run it.
        """
        inputs = [triton.Tensor("batch_inputs", batch_inputs)]
        if self.spec.has_mask:
            inputs.append(triton.Tensor("img_masks", img_masks))
        request = triton.InferenceRequest(
            model_name=NETWORK,
            requested_output_names=list(RawOutputs._fields),
            inputs=inputs,
            # Otherwise they stay on the GPU, out of numpy's reach.
            preferred_memory=triton.PreferredMemory(triton.TRITONSERVER_MEMORY_CPU, 0),
        )
        response = request.exec()
        if response.has_error():
            raise triton.TritonModelException(response.error().message())
        outputs = {tensor.name(): tensor.as_numpy() for tensor in response.output_tensors()}
        return RawOutputs(*(outputs[name] for name in RawOutputs._fields))

    def infer_images(self, images: Sequence[Image | GpuPicture]) -> RawOutputs:
        """Prepare pictures here, and run them as one batch."""
        batch = prepare_batch(images, self.spec)
        return self.infer(batch.batch_inputs, batch.img_masks)

    def close(self) -> None:
        """The server unloads its models itself."""


class TritonPythonModel:
    """What Triton calls, each instance in a process of its own."""

    def initialize(self, args: Mapping[str, str]) -> None:
        """Read the settings from the model's config.pbtxt."""
        settings = Settings.from_config(json.loads(args["model_config"]))
        self._threshold = settings.score_threshold
        self._detector = Detector(
            NetworkModel(settings.spec), nms=settings.nms, max_batch=settings.max_batch
        )

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """Answer requests that Triton put together, with as few inferences as hold them.

        A request with a bad picture gets an error, the others are answered.
        """
        asked = [_pictures_or_error(request) for request in requests]
        pictures = [images for images in asked if not isinstance(images, UserError)]
        found = iter(self._detector(list(chain.from_iterable(pictures))))
        return [
            _error(images)
            if isinstance(images, UserError)
            else _answer([one.above(self._threshold) for one in islice(found, len(images))])
            for images in asked
        ]

    def finalize(self) -> None:
        """Called when the model is unloaded."""
        self._detector.close()


def _pictures_or_error(request: Any) -> list[Image] | UserError:
    try:
        return _pictures(request)
    except UserError as error:
        return error


def _pictures(request: Any) -> list[Image]:
    """The pictures of one request: uint8 RGB (h, w, 3) each.

    Raises:
        UserError: not one of the two inputs, or bytes that are no picture.
    """
    inputs = {tensor.name(): tensor.as_numpy() for tensor in request.inputs()}
    match inputs:
        case {"image": images, **rest} if not rest:  # uint8 (B, h, w, 3)
            return [checked_image(image) for image in images]
        case {"encoded": encoded, **rest} if not rest:  # bytes (B, 1)
            return [decode_image(data, f"in row {row}") for row, data in enumerate(encoded[:, 0])]
    raise UserError(
        "give either image, uint8 RGB (B, h, w, 3), or encoded, the bytes of picture files (B, 1); "
        f"got {' and '.join(inputs) or 'none'}"
    )


def _error(error: UserError) -> Any:
    return triton.InferenceResponse(
        error=triton.TritonError(str(error), triton.TritonError.INVALID_ARG)
    )


def _answer(found: Sequence[Detections]) -> Any:
    """One row for each picture of a request, filled up with zeros to the longest."""
    counts = np.array([[len(one)] for one in found], np.int32)  # (B, 1)
    rows, most = len(found), counts.max()
    boxes = np.zeros((rows, most, 4), np.float32)
    scores = np.zeros((rows, most), np.float32)
    labels = np.zeros((rows, most), np.int64)
    for row, one in enumerate(found):
        boxes[row, : len(one)] = one.boxes
        scores[row, : len(one)] = one.scores
        labels[row, : len(one)] = one.labels
    arrays = {"num_detections": counts, "boxes": boxes, "scores": scores, "labels": labels}
    return triton.InferenceResponse([triton.Tensor(*item) for item in arrays.items()])
