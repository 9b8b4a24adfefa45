"""Two files that may be compared: an engine or ONNX, and the reference it is held against."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runtime.backend import ModelMetadata, ModelSpec
from runtime.errors import UserError
from runtime.files import sha256_of
from trt_build.manifest import read_whole_manifest
from trt_build.onnx_file import read_onnx

_SAME = ("preset", "weights_sha256", "height", "width", "batch", "mask")
"""What two exports have to have in common; precision is what they may differ in."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """What is verified."""

    path: Path
    model: dict[str, Any]
    """What the exporter said of it."""
    recipe: dict[str, Any] | None
    """How the engine was built; None for an ONNX."""
    least_batch: int
    """The fewest pictures it takes at a time."""
    onnx: Path | None
    """What its stages are taken from; None without ``with_stages``."""


def read_candidate(path: Path, onnx: Path | None, *, with_stages: bool) -> Candidate:
    """Read what is said of an engine or of an ONNX.

    Args:
        path: an engine with its manifest, or an ONNX in plain operators.
        onnx: what the engine was built from, if not the file beside it that its manifest names.
        with_stages: whether that ONNX is needed.

    Raises:
        UserError: a file is missing or another one than it should be.
    """
    if not path.is_file():
        raise UserError(
            f"{path} is {'a folder' if path.is_dir() else 'not there'}; give an engine or an ONNX"
        )
    if path.suffix == ".onnx":
        if onnx is not None:
            raise UserError(f"--onnx says what an engine was built from; {path} is an ONNX itself")
        return Candidate(path, _plain_model(path), None, 1, path if with_stages else None)
    manifest = read_whole_manifest(path)
    profile = manifest["io"][0]["profile"]
    least = profile["min"][0] if profile else 1
    source = _source(path, onnx, manifest["onnx"]) if with_stages else None
    return Candidate(path, manifest["model"], manifest["recipe"], least, source)


def read_reference(path: Path, candidate: Candidate) -> ModelSpec:
    """Check that a reference is one for a candidate; returns the contract of both.

    Raises:
        UserError: it is no plain ONNX of ours, or of another model.
    """
    model = _plain_model(path)
    for key in _SAME:
        ours, theirs = candidate.model.get(key), model.get(key)
        if ours != theirs:
            raise UserError(
                f"{path} is no reference for {candidate.path}: its {key} is {_short(theirs)}, not "
                f"{_short(ours)}; give the .ref.onnx of an export with the same settings"
            )
    try:
        metadata = ModelMetadata.from_json(json.dumps(model))
        batch = None if model["batch"] == "dynamic" else int(model["batch"])
        sizes = metadata.sizes
        height, width = sizes.largest if sizes else (model["height"], model["width"])
        return ModelSpec(height, width, batch, model["mask"], metadata)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise UserError(f"{path} is not a Co-DETR model: {error}; export it again") from error


def _plain_model(path: Path) -> dict[str, Any]:
    """What the exporter said of an ONNX that ONNX Runtime can run."""
    summary = read_onnx(path)
    if summary.plugin_ops:
        raise UserError(
            f"{path} holds plugin nodes ({', '.join(summary.plugin_ops)}), which only TensorRT "
            f"can run; give {path.with_suffix('.ref.onnx').name}, which is written beside it"
        )
    return summary.model


def _source(engine: Path, onnx: Path | None, described: dict[str, Any]) -> Path:
    """The ONNX that an engine was built from."""
    # Its name alone: a manifest leads to no other folder.
    path = onnx or engine.with_name(Path(described["file"]).name or engine.name)
    if not path.is_file():
        raise UserError(
            f"{path}, which {engine} was built from, is not there; give it with --onnx, or give "
            "--no-stages"
        )
    found = sha256_of(path)
    if found != described["sha256"]:
        raise UserError(
            f"{path} is not what {engine} was built from: its SHA-256 is {found[:12]}…, not "
            f"{described['sha256'][:12]}…; give the right one with --onnx, or give --no-stages"
        )
    return path


def _short(value: Any) -> str:
    """A hash is as good by its start."""
    text = str(value)
    return f"{text[:12]}…" if len(text) == 64 else text
