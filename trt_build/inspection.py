"""Says what an engine file is: from the engine itself where it can be loaded, else its manifest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from runtime.errors import UserError
from runtime.tensorrt_log import make_logger, one_line
from trt_build.backend import BACKENDS, choose_backend
from trt_build.layers import layers_of_plan
from trt_build.machine import describe_gpu
from trt_build.manifest import read_whole_manifest

_ENGINE_MAGICS = (b"ftrt", b"vtrt")  # TensorRT, TensorRT-RTX
# How files begin that are taken for engines by mistake.
_OTHER_KINDS = {
    b"\x89PNG": "a PNG picture",
    b"\xff\xd8\xff": "a JPEG picture",
    b"PK\x03\x04": "a zip archive, perhaps a PyTorch checkpoint",
    b"{": "a JSON file",
    b"\x08": "an ONNX model",  # the field ir_version, which exporters write first
}


def inspect_engine(engine: Path) -> dict[str, Any]:
    """The manifest of an engine, with the layers counted anew where the engine can be loaded.

    The key ``layers_note`` says why ``layers`` is what the manifest holds; None if it is fresh.

    Raises:
        UserError: not an engine, or an engine without a manifest that describes it.
    """
    _check_kind(engine)
    manifest = read_whole_manifest(engine)
    layers, note = _count_layers(engine, manifest["recipe"])
    return {**manifest, "layers": layers or manifest["layers"], "layers_note": note}


def _check_kind(path: Path) -> None:
    if not path.is_file():
        raise UserError(f"{path} is {'a folder' if path.is_dir() else 'not there'}; give an engine")
    with path.open("rb") as file:
        start = file.read(4)
    if start in _ENGINE_MAGICS:
        return
    kinds = (kind for magic, kind in _OTHER_KINDS.items() if start.startswith(magic))
    kind = next(kinds, "not an engine" if start else "empty")
    raise UserError(f"{path} is {kind}; give an engine made by python -m trt_build")


def _count_layers(engine: Path, recipe: dict[str, Any]) -> tuple[dict[str, Any] | None, str | None]:
    """The layers of the engine and no note, or None and a note that says why not."""
    wanted, options = BACKENDS[recipe["backend"]], recipe["options"]
    # Manifests written before there was this option do not have it.
    verbosity = options.get("profiling_verbosity", "detailed")
    if verbosity != "detailed":
        return None, f"built with --profiling-verbosity {verbosity}, it does not tell of them"
    try:
        backend = choose_backend(wanted.name)
    except UserError:
        return None, f"{wanted.title} is not installed here"
    if backend.version() != recipe["backend_version"]:
        return None, (
            f"built by {wanted.title} {recipe['backend_version']}, here is {backend.version()}"
        )
    gpu, reason = describe_gpu()
    if gpu is None:
        return None, f"an engine can be loaded only where a GPU is ({reason})"
    trt = backend.load()
    logger = make_logger(trt)
    host_code_allowed = options.get("version_compatible", False)
    layers = layers_of_plan(trt, logger, engine.read_bytes(), host_code_allowed=host_code_allowed)
    if layers is None:
        return None, f"it cannot be loaded here: {'; '.join(map(one_line, logger.errors))}"
    return layers, None
