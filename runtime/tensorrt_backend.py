"""Models as TensorRT engines."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from runtime.backend import ModelMetadata, ModelSpec, RawOutputs
from runtime.closing import Closing
from runtime.compatibility import Library, Recipe
from runtime.cuda import current_gpu, require_gpu
from runtime.engine import Engine
from runtime.errors import UserError
from runtime.manifest import read_manifest


class TensorRTModel(Closing):
    """A ``runtime.backend.Model`` run by TensorRT; calls of several threads take turns."""

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
        try:
            metadata = ModelMetadata.from_json(json.dumps(self.manifest.get("model")))
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


def _import(library: Library, engine: Path) -> ModuleType:
    try:
        return importlib.import_module(library.module)
    except (ImportError, OSError) as error:  # OSError: a library that it loads is not there
        raise UserError(
            f"{engine} was built by {library.title}, which cannot be imported here ({error}); "
            f"{library.install}"
        ) from error
