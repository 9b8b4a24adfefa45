"""Models as TensorRT engines."""

from __future__ import annotations

import contextlib
import importlib
import json
import sys
from collections.abc import Sequence
from functools import partial
from math import prod
from pathlib import Path
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from runtime.backend import ModelMetadata, ModelSpec, RawOutputs
from runtime.closing import Closing
from runtime.compatibility import Library, Recipe
from runtime.cuda import current_device, current_gpu, require_gpu
from runtime.engine import Engine, Fill
from runtime.errors import UserError
from runtime.gpu_array import GpuOutputs
from runtime.gpu_picture import GpuPicture
from runtime.images import Image
from runtime.manifest import read_manifest
from runtime.nvrtc import NvrtcError
from runtime.preprocess import prepare_batch
from runtime.preprocess_gpu import GpuPreprocessor, Inputs, StoredPicture
from runtime.shapes import Shapes


class TensorRTModel(Closing):
    """A ``runtime.backend.Model`` run by TensorRT; threads may share it, see ``Engine``."""

    concurrency = 2  # one prepares its pictures while the GPU works for the other

    def __init__(self, path: Path, *, cuda_graph: bool = True) -> None:
        """Load ``path`` and the manifest beside it.

        Raises:
            UserError: no GPU, no TensorRT, a manifest that is missing or another engine's, an
                engine of another version or for another GPU, or one that cannot be loaded.
        """
        self.manifest = read_manifest(path)
        recipe = Recipe.from_manifest(self.manifest, path)
        trt = _import(recipe.library, path)
        recipe.check_version(path, trt.__version__)
        require_gpu()
        gpu = current_gpu()
        recipe.check_gpu(path, gpu.name, gpu.compute_capability)
        self.backend = f"{trt.__name__} {trt.__version__}"
        self.engine = Engine(
            path, trt, cuda_graph=cuda_graph, host_code_allowed=recipe.version_compatible
        )
        with contextlib.ExitStack() as stack:
            stack.callback(self.engine.close)
            self.spec = self._read_spec(path)
            self._preprocessor = self._make_preprocessor()
            stack.pop_all()

    def infer(
        self, batch_inputs: NDArray[np.float32], img_masks: NDArray[np.float32]
    ) -> RawOutputs:
        """Run one batch; see ``runtime.backend.Model``."""
        feeds = {"batch_inputs": batch_inputs}
        if self.spec.has_mask:
            feeds["img_masks"] = img_masks
        outputs = self.engine.infer(feeds)
        return RawOutputs(*(outputs[name] for name in RawOutputs._fields))

    def infer_images(self, images: Sequence[Image | GpuPicture]) -> RawOutputs:
        """Run pictures; only their own bytes are copied to the GPU, if they are not there yet."""
        if self._preprocessor is None:
            batch = prepare_batch(images, self.spec)
            return self.infer(batch.batch_inputs, batch.img_masks)
        outputs = self.engine.infer_staged(*self._call(images, self._preprocessor))
        return RawOutputs(*(outputs[name] for name in RawOutputs._fields))

    def infer_images_on_gpu(self, images: Sequence[Image | GpuPicture]) -> GpuOutputs:
        """Run pictures and leave the outputs on the GPU, for what goes on there.

        Raises:
            UserError: as ``infer_images``; or the GPU does not prepare pictures, without NVRTC.
        """
        if self._preprocessor is None:
            raise UserError(
                "the GPU cannot prepare pictures without NVRTC; pip install nvidia-cuda-nvrtc"
            )
        outputs = self.engine.infer_on_gpu(*self._call(images, self._preprocessor))
        return GpuOutputs(*(outputs[name] for name in GpuOutputs._fields))

    def _call(
        self, images: Sequence[Image | GpuPicture], preprocessor: GpuPreprocessor
    ) -> tuple[list[Image], Shapes, Fill]:
        """What the engine is to copy, the shapes of its inputs, and what makes them of it."""
        shapes = preprocessor.shapes(images)
        device = current_device()
        for image in images:
            if isinstance(image, GpuPicture) and image.device != device:
                raise UserError(
                    f"a picture lies on GPU {image.device}, and the engine runs on {device}; copy "
                    "it there first"
                )
        pictures = [StoredPicture.of(image, self.spec) for image in images]
        copied = [p.pixels for p in pictures if not isinstance(p.pixels, GpuPicture)]
        return copied, shapes, partial(preprocessor.enqueue, pictures)

    @property
    def preprocesses_on_gpu(self) -> bool:
        """False where NVRTC could not compile the kernel."""
        return self._preprocessor is not None

    def close(self) -> None:
        """Free the engine and its memory."""
        self.engine.close()

    def _read_spec(self, path: Path) -> ModelSpec:
        try:
            metadata = ModelMetadata.from_json(json.dumps(self.manifest.get("model")))
            return ModelSpec.from_tensors(self.engine.inputs, self.engine.outputs, metadata)
        except ValueError as error:
            raise UserError(f"{path} is not a Co-DETR engine: {error}") from error

    def _make_preprocessor(self) -> GpuPreprocessor | None:
        """With room for pictures as large as the input; None where there is no NVRTC."""
        addresses = self.engine.addresses
        inputs = Inputs(addresses["batch_inputs"], addresses.get("img_masks"))
        try:
            preprocessor = GpuPreprocessor(self.spec, inputs)
        except NvrtcError as error:
            print(f"warning: pictures are preprocessed on the CPU: {error}", file=sys.stderr)
            return None
        # uint8 where the input is float32; larger pictures make it grow.
        self.engine.reserve(prod(self.engine.largest("batch_inputs")))
        return preprocessor


def _import(library: Library, engine: Path) -> ModuleType:
    try:
        return importlib.import_module(library.module)
    except (ImportError, OSError) as error:  # OSError: a library that it loads is not there
        raise UserError(
            f"{engine} was built by {library.title}, which cannot be imported here ({error}); "
            f"{library.install}"
        ) from error
