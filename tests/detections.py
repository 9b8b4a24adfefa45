"""Running graphs and models on the goldens' pictures, and comparing what they detect."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray

from codetr.checkpoint import build_model, read_checkpoint
from onnx_export.precision import Precision, TypedModel
from runtime.backend import RawOutputs
from tests.synthetic_checkpoint import GOLDEN
from trt_build.agreement import agreement

Array = NDArray[np.float32]


Outputs = RawOutputs
"""What graph and model give, (B, N, …)."""


def golden_inputs(*cases: str) -> dict[str, Array]:
    """The graph's inputs, one row for each golden case (of equal padded size)."""
    files = [np.load(GOLDEN / f"{case}.npz") for case in cases]
    return {
        "batch_inputs": np.concatenate([file["input"] for file in files]),
        "img_masks": np.concatenate([file["img_mask"] for file in files]).astype(np.float32),
    }


def run_graph(path: Path, inputs: dict[str, Array]) -> Outputs:
    """In ONNX Runtime, with those of the inputs that the graph has."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    feeds = {i.name: inputs[i.name] for i in session.get_inputs()}
    return Outputs(*session.run(["boxes", "scores", "labels"], feeds))


def run_model(
    preset: str, weights: Path, inputs: dict[str, Array], precision: Precision = "fp32"
) -> Outputs:
    """In PyTorch."""
    model, _ = build_model(preset, read_checkpoint(weights))
    typed = TypedModel(model, precision).eval()
    with torch.inference_mode():
        outputs = typed(*(torch.from_numpy(array) for array in inputs.values()))
    return Outputs(*(output.numpy() for output in outputs))


def least_agreement(
    wanted: Outputs, preset: str, weights: Path, inputs: dict[str, Array], precision: Precision
) -> float:
    """Share of the detections in which an engine has to agree with ``wanted``, PyTorch's in fp32.

    fp16: 99 %. bf16 has three bits less, with which PyTorch itself does not agree so far; which
    detections it moves is chance (on two CPUs it moved 29 % and 44 % of one case), so an engine may
    move half as many again.
    """
    if precision == "fp16":
        return 0.99
    moved = 1 - agreement(run_model(preset, weights, inputs, precision), wanted)
    return 1 - 1.5 * moved


def assert_close(found: Outputs, wanted: Outputs, tolerance: float) -> None:
    """Every wanted detection is found with its label: ``tolerance`` relative to the largest value.

    Matched, not compared row by row: detections of nearly equal score may swap places.
    """
    limit = tolerance * wanted.boxes.max()
    for row in range(len(wanted.boxes)):
        f, w = (Outputs(*(array[row] for array in outputs)) for outputs in (found, wanted))
        np.testing.assert_allclose(f.scores, w.scores, rtol=tolerance)
        near = np.abs(f.boxes[:, None] - w.boxes).max(-1) <= limit  # (found, wanted)
        near &= f.labels[:, None] == w.labels
        near &= np.abs(f.scores[:, None] - w.scores) <= tolerance
        assert near.any(0).all() and near.any(1).all()
