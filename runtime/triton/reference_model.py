"""The model ``codetr_network`` as a reference graph. Runs inside Triton's Python backend."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as triton

from runtime.onnxruntime_backend import OnnxRuntimeModel
from runtime.triton import REFERENCE_FILE


class TritonPythonModel:
    """What Triton calls."""

    def initialize(self, args: Mapping[str, str]) -> None:
        """Load the graph."""
        folder = Path(args["model_repository"], args["model_version"])
        self._model = OnnxRuntimeModel(folder / REFERENCE_FILE)

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """Run requests that Triton put together as one batch; each gets its rows."""
        feeds = [{t.name(): t.as_numpy() for t in request.inputs()} for request in requests]
        images = np.concatenate([feed["batch_inputs"] for feed in feeds])  # (B, 3, H, W)
        masks = np.zeros(0, np.float32)  # not used
        if self._model.spec.has_mask:
            masks = np.concatenate([feed["img_masks"] for feed in feeds])  # (B, H, W)
        outputs = self._model.infer(images, masks)._asdict()
        ends = np.cumsum([len(feed["batch_inputs"]) for feed in feeds])[:-1]
        shares = [np.split(array, ends) for array in outputs.values()]
        return [
            triton.InferenceResponse(list(map(triton.Tensor, outputs, rows)))
            for rows in zip(*shares, strict=True)
        ]

    def finalize(self) -> None:
        """Free the session."""
        self._model.close()
