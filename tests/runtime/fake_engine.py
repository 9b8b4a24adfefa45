"""Files that look like an engine with its manifest, as far as they are read without a GPU."""

import importlib
import json

from runtime.files import sha256_of
from runtime.manifest import MANIFEST_VERSION, manifest_path
from tests.runtime.tiny_model import metadata


def manifest_of(gpu="NVIDIA H200", compute_capability="9.0", **recipe):
    """What the builder says of an engine of TensorRT 10.6.0; ``recipe`` replaces entries of it."""
    return {
        "manifest_version": MANIFEST_VERSION,
        "recipe": {
            "backend": "tensorrt",
            "backend_version": "10.6.0",
            "gpu": gpu,
            "options": {"compute_capabilities": []},
        }
        | recipe,
        "build": {"machine": {"gpu": {"name": gpu, "compute_capability": compute_capability}}},
        "model": json.loads(metadata()),
    }


def save_engine(path, manifest, content=b"ftrt and then nothing"):
    """Write the content and a manifest with its hash."""
    path.write_bytes(content)
    engine = {"file": path.name, "sha256": sha256_of(path), "bytes": len(content)}
    described = manifest | {"engine": engine}
    manifest_path(path).write_text(json.dumps(described))
    return path


def installed_library():
    """Name of the backend that can be imported here, and its version."""
    for backend, module in (("tensorrt", "tensorrt"), ("tensorrt-rtx", "tensorrt_rtx")):
        try:
            return backend, importlib.import_module(module).__version__
        except ImportError:
            continue
    raise AssertionError("neither TensorRT nor TensorRT-RTX is installed")
