"""Model file -> model repository of Triton."""

from __future__ import annotations

import json
import operator
import shutil
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runtime.backend import ModelMetadata, ModelSpec, TensorInfo
from runtime.compatibility import TENSORRT, Recipe
from runtime.errors import UserError
from runtime.files import atomic_folder
from runtime.manifest import read_manifest
from runtime.postprocess import NmsMode
from runtime.triton import DETECTOR, NETWORK, REFERENCE_FILE
from runtime.triton.config import detector_config, network_config
from runtime.triton.settings import Settings

VERSION = "1"
"""The folder of the only version of each model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """A model file and what its half of the repository has to say about it."""

    file: Path
    spec: ModelSpec
    inputs: Mapping[str, TensorInfo]
    outputs: Mapping[str, TensorInfo]
    largest_batch: int | None
    """Pictures per inference; None: any number."""
    recipe: Recipe | None
    """Of an engine."""


def read_network(path: Path) -> Network:
    """Find out what a model file takes and gives; an engine needs no GPU for that.

    Raises:
        UserError: there is no such file, or Triton cannot serve it.
    """
    if not path.is_file():
        raise UserError(f"no model file {path}; give a .engine or a .ref.onnx")
    match path.suffix.lower():
        case ".engine":
            network = _engine(path)
        case ".onnx":
            network = _reference(path)
        case _:
            raise UserError(f"cannot serve {path}: its suffix is neither .engine nor .onnx")
    if network.spec.metadata.sizes is not None:
        raise UserError(
            f"{path} takes inputs of many sizes, and a model repository is written for one; export "
            "the model with a fixed --height and --width"
        )
    return network


def write_repository(
    network: Network,
    repository: Path,
    *,
    max_batch: int | None = None,
    nms: NmsMode = "soft",
    score_threshold: float = 0.3,
    instances: int = 2,
) -> Settings:
    """Write a repository, whole or not at all.

    Args:
        network: see ``read_network``.
        repository: folder to make.
        max_batch: most pictures per inference; by default as many as the file takes, one if it
            takes any number.
        nms: see ``runtime.postprocess.nms``.
        score_threshold: detections with a lower score are left out.
        instances: processes that prepare pictures.

    Returns:
        What was written about the detector.

    Raises:
        UserError: the folder exists or cannot be written, or the file does not take such batches.
    """
    settings = Settings(
        spec=network.spec,
        max_batch=_checked_batch(network, max_batch),
        nms=nms,
        score_threshold=score_threshold,
    )
    try:
        with atomic_folder(repository) as folder:
            detector = _model_folder(folder, DETECTOR, detector_config(settings, instances))
            _write_python_model(detector, "detector_model")
            model = _model_folder(folder, NETWORK, _config_of(network, settings.max_batch))
            if network.recipe:
                shutil.copyfile(network.file, model / "model.plan")
            else:
                shutil.copyfile(network.file, model / REFERENCE_FILE)
                _write_python_model(model, "reference_model")
    except OSError as error:
        raise UserError(f"cannot write {repository}: {error.strerror}; make room there") from error
    return settings


def _engine(path: Path) -> Network:
    manifest = read_manifest(path)
    recipe = Recipe.from_manifest(manifest, path)
    if recipe.library is not TENSORRT:
        raise UserError(
            f"{path} was built by {recipe.library.title}, and Triton runs engines of TensorRT; "
            "build it with --backend tensorrt, or serve the reference graph (.ref.onnx)"
        )
    try:
        inputs, outputs = _tensors(manifest, "input"), _tensors(manifest, "output")
        metadata = ModelMetadata.from_json(json.dumps(manifest["model"]))
        spec = ModelSpec.from_tensors(inputs, outputs, metadata)
        largest = spec.batch or _largest_batch(manifest, path)
    except (LookupError, TypeError, ValueError) as error:
        raise UserError(f"{path} is not a Co-DETR engine: {error}") from error
    return Network(
        file=path, spec=spec, inputs=inputs, outputs=outputs, largest_batch=largest, recipe=recipe
    )


def _tensors(manifest: Mapping[str, Any], mode: str) -> dict[str, TensorInfo]:
    return {
        tensor["name"]: TensorInfo(
            tensor["dtype"], tuple(None if n == -1 else operator.index(n) for n in tensor["shape"])
        )
        for tensor in manifest["io"]
        if tensor["mode"] == mode
    }


def _largest_batch(manifest: Mapping[str, Any], path: Path) -> int:
    """Of an engine with a dynamic batch.

    Raises:
        UserError: it does not take single pictures, which Triton cannot be told.
    """
    [profile] = [t["profile"] for t in manifest["io"] if t["name"] == "batch_inputs"]
    smallest, largest = int(profile["min"][0]), int(profile["max"][0])
    if smallest > 1:
        raise UserError(
            f"{path} takes {smallest} to {largest} pictures, and Triton has to be free to send "
            f"one; build it with --batch 1,{profile['opt'][0]},{largest}"
        )
    return largest


def _reference(path: Path) -> Network:
    from runtime.onnxruntime_backend import OnnxRuntimeModel

    with closing(OnnxRuntimeModel(path)) as model:
        return Network(
            file=path,
            spec=model.spec,
            inputs=model.inputs,
            outputs=model.outputs,
            largest_batch=model.spec.batch,
            recipe=None,
        )


def _checked_batch(network: Network, wanted: int | None) -> int:
    largest, fixed = network.largest_batch, network.spec.batch
    if wanted is None:
        return largest or 1
    if fixed and wanted != fixed:
        raise UserError(
            f"{network.file} has a fixed batch of {fixed}, got --max-batch {wanted}; leave it out"
        )
    if largest and wanted > largest:
        raise UserError(
            f"{network.file} takes up to {largest} pictures, got --max-batch {wanted}; "
            "give less, or build it again with a larger --batch"
        )
    return wanted


def _config_of(network: Network, max_batch: int) -> str:
    return network_config(
        network.inputs,
        network.outputs,
        max_batch=None if network.spec.batch else max_batch,
        runs_on='platform: "tensorrt_plan"' if network.recipe else 'backend: "python"',
        kind="KIND_GPU" if network.recipe else "KIND_CPU",
    )


def _model_folder(repository: Path, name: str, config: str) -> Path:
    """Make the folder of a model; returns that of its version."""
    folder = repository / name / VERSION
    folder.mkdir(parents=True)
    (repository / name / "config.pbtxt").write_text(config)
    return folder


def _write_python_model(folder: Path, module: str) -> None:
    """The code itself stays in this package, which has to be installed where Triton runs."""
    (folder / "model.py").write_text(
        f"from runtime.triton.{module} import TritonPythonModel  # pip install codetr-tensorrt\n"
    )
