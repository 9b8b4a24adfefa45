"""The model in PyTorch as the runtime sees models: what files of it are judged against."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from codetr.checkpoint import build_model, read_checkpoint
from codetr.presets import PIXEL_MEAN, PIXEL_STD
from runtime.backend import ModelMetadata, ModelSpec, RawOutputs
from runtime.images import Image
from runtime.preprocess import prepare_batch


class PyTorchModel:
    """A ``runtime.backend.Model`` in float32, without TF32; it takes any batch."""

    concurrency = 1

    def __init__(
        self,
        preset: str,
        weights: Path,
        size: tuple[int, int],
        *,
        mask: bool = True,
        device: str = "cpu",
    ) -> None:
        """Load the weights.

        Args:
            preset: a key of ``codetr.presets.PRESETS``.
            weights: its checkpoint.
            size: height and width of the input.
            mask: pad pictures to that size and tell the model where; else they are stretched.
            device: where PyTorch computes.

        Raises:
            UserError: the weights cannot be read or do not fit.
        """
        # As engines of ours: float32 where float32 was asked for.
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
        checkpoint = read_checkpoint(weights)
        self.weights_sha256 = checkpoint.sha256
        model, classes = build_model(preset, checkpoint)
        self.module = model.to(device)
        self._device = device
        self.backend = f"pytorch {torch.__version__}"
        metadata = ModelMetadata(preset, "fp32", classes, PIXEL_MEAN, PIXEL_STD)
        self.spec = ModelSpec(*size, None, mask, metadata)

    def infer(
        self, batch_inputs: NDArray[np.float32], img_masks: NDArray[np.float32]
    ) -> RawOutputs:
        """Run one batch; see ``runtime.backend.Model``."""
        arrays = (batch_inputs, img_masks) if self.spec.has_mask else (batch_inputs,)
        with torch.inference_mode():
            outputs = self.module(*(torch.from_numpy(array).to(self._device) for array in arrays))
        return RawOutputs(*(output.cpu().numpy() for output in outputs))

    def infer_images(self, images: Sequence[Image]) -> RawOutputs:
        """Run pictures; see ``runtime.backend.Model``."""
        batch = prepare_batch(images, self.spec)
        return self.infer(batch.batch_inputs, batch.img_masks)

    def close(self) -> None:
        """Nothing to give back: memory goes with the object."""
