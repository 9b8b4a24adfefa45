"""Golden cases through real TensorRT engines, for ``python -m tests.golden DIR --engine …``."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

from codetr.errors import UserError
from codetr.presets import PRESETS
from onnx_export.export import ExportConfig, export
from onnx_export.precision import Precision
from runtime.backend import RawOutputs
from tests.conftest import has_gpu
from tests.detections import least_agreement, run_model
from tests.golden import ArrayError, final_errors, match_errors
from tests.golden_case import Array, Case, read_case
from tests.synthetic_checkpoint import settled, write_checkpoint
from tests.synthetic_weights import synthetic_state
from trt_build.agreement import agreement

TOLERANCE = 1e-3
"""In fp32: of a score, and of a box in parts of the input's longer side."""


def check_engine(
    folder: Path, name: str, *, precision: Precision, timing_cache: Path | None
) -> list[ArrayError]:
    """Export, build and run the model of one case.

    In fp32 the detections are the golden ones. The goldens' random weights give others in any half
    precision, so there the weights are settled ones and the PyTorch model is what to agree with: as
    far as ``tests.detections.least_agreement`` says.

    Raises:
        UserError: no GPU, a case of no preset, or the engine could not be built.
    """
    if not has_gpu():
        raise UserError("--engine builds and runs engines, and there is no NVIDIA GPU here")
    case = read_case(folder, name)
    preset = f"co_dino_{case.model}"
    if PRESETS.get(preset) != case.config:
        raise UserError(
            f"{name} has the model {case.model}, which is no preset; leave --engine out"
        )
    inputs = case_inputs(case)
    with tempfile.TemporaryDirectory() as temporary:
        weights = _write_weights(case, Path(temporary), precision)
        engine = _build(case, preset, weights, precision, timing_cache)
        outputs = _run(engine, inputs)
        if precision == "fp32":
            return golden_errors(outputs, case)
        wanted = run_model(preset, weights, inputs)
        share = agreement(outputs, wanted)
        least = least_agreement(wanted, preset, weights, inputs, precision)
    return [ArrayError("disagreeing share", round(1 - share, 6), round(1 - least, 6))]


def golden_errors(outputs: RawOutputs, case: Case) -> list[ArrayError]:
    """Errors of the detections before and after NMS; all queries have to be the golden ones."""
    boxes, scores, labels = (array[0] for array in outputs)
    errors = match_errors("prenms", boxes, scores, labels, case.arrays)
    errors |= final_errors(boxes, scores, labels, case)
    tolerances = {"labels": 0, "scores": TOLERANCE}
    tolerances["boxes"] = TOLERANCE * max(case.arrays["input"].shape)
    return [
        ArrayError(key, error, tolerances[key.partition("_")[2]]) for key, error in errors.items()
    ]


def case_inputs(case: Case) -> dict[str, Array]:
    """The model's inputs."""
    mask = case.arrays["img_mask"].astype(np.float32)
    return {"batch_inputs": case.arrays["input"], "img_masks": mask * (not case.use_lsj)}


def _write_weights(case: Case, folder: Path, precision: Precision) -> Path:
    state = {k: torch.from_numpy(np.asarray(v)) for k, v in synthetic_state(case.manifest).items()}
    path = folder / "weights.safetensors"
    return write_checkpoint(path, state if precision == "fp32" else settled(state))


def _build(
    case: Case, preset: str, weights: Path, precision: Precision, timing_cache: Path | None
) -> Path:
    height, width = case.arrays["input"].shape[2:]
    config = ExportConfig(
        preset=preset,
        weights=weights,
        height=height,
        width=width,
        precision=precision,
        mask=not case.use_lsj,
    )
    onnx, _ = export(config, weights.with_name("model.onnx"), lambda _line: None)
    engine = onnx.with_suffix(".engine")
    command = [sys.executable, "-m", "trt_build", onnx, "-o", engine, "--backend", "tensorrt"]
    command += ["--timing-cache", timing_cache] if timing_cache else []
    if code := subprocess.run(command, check=False, stdout=subprocess.DEVNULL).returncode:
        raise UserError(f"trt_build failed with exit code {code}; see above")
    return engine


def _run(engine: Path, inputs: dict[str, Array]) -> RawOutputs:
    from runtime.tensorrt_backend import TensorRTModel

    model = TensorRTModel(engine)
    try:
        return model.infer(inputs["batch_inputs"], inputs["img_masks"])
    finally:
        model.close()
