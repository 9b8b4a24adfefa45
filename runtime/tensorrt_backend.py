"""Models as TensorRT engines."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from runtime.backend import ModelMetadata, ModelSpec, RawOutputs
from runtime.engine import Engine
from runtime.errors import UserError
from runtime.manifest import read_manifest

_MODULES = {"tensorrt": "tensorrt", "tensorrt-rtx": "tensorrt_rtx"}
"""The module that runs what a backend built."""


class TensorRTModel:
    """A ``runtime.backend.Model`` run by TensorRT; for one thread at a time."""

    def __init__(self, path: Path, *, cuda_graph: bool = True) -> None:
        """Load ``path`` and the manifest beside it.

        Raises:
            UserError: no GPU, no TensorRT, a manifest that is missing or another engine's, or an
                engine that cannot be loaded here.
        """
        self.manifest = read_manifest(path)
        backend = self.manifest["recipe"]["backend"]
        try:
            trt = importlib.import_module(_MODULES[backend])
        except ImportError as error:
            raise UserError(
                f"{path} was built by {backend}, which is not installed: {error}"
            ) from error
        self.engine = Engine(path, trt, cuda_graph=cuda_graph)
        try:
            metadata = ModelMetadata.from_json(json.dumps(self.manifest["model"]))
            self.spec = ModelSpec.from_tensors(self.engine.inputs, self.engine.outputs, metadata)
        except ValueError as error:
            self.engine.close()
            raise UserError(f"{path} is not a Co-DETR engine: {error}") from error

    def infer(
        self, batch_inputs: NDArray[np.float32], img_masks: NDArray[np.float32]
    ) -> RawOutputs:
        """Run one batch; see ``runtime.backend.Model``."""
        feeds = {"batch_inputs": batch_inputs}
        if self.spec.has_mask:
            feeds["img_masks"] = img_masks
        outputs = self.engine.infer(feeds)
        return RawOutputs(*(outputs[name] for name in RawOutputs._fields))

    def close(self) -> None:
        """Free the engine and its memory."""
        self.engine.close()
