"""A whole manifest, as ``trt_build`` writes it."""

import hashlib
import json

from tests.runtime.fake_engine import manifest_of
from tests.runtime.tiny_model import metadata

_PROFILE = {"min": [1, 3, 48, 64], "opt": [1, 3, 48, 64], "max": [8, 3, 48, 64]}
_MASK = {"min": [1, 48, 64], "opt": [1, 48, 64], "max": [8, 48, 64]}


def _tensor(name, mode, dtype, shape, profile=None):
    return {"name": name, "mode": mode, "dtype": dtype, "shape": shape, "profile": profile}


_BASE = manifest_of()
CONTENT = b"ftrt and then nothing"
"""Of the engine."""
MANIFEST = {
    **_BASE,
    "engine": {
        "file": "m.engine",
        "sha256": hashlib.sha256(CONTENT).hexdigest(),
        "bytes": len(CONTENT),
    },
    "onnx": {"file": "m.onnx", "sha256": "0" * 64, "bytes": 7},
    "recipe": {
        "onnx_sha256": "0" * 64,
        "plugin_sha256": None,
        **_BASE["recipe"],
        "options": {"compute_capabilities": [], "batch": [1, 1, 8], "version_compatible": False},
    },
    "io": [
        _tensor("batch_inputs", "input", "float32", [-1, 3, 48, 64], _PROFILE),
        _tensor("img_masks", "input", "float32", [-1, 48, 64], _MASK),
        _tensor("boxes", "output", "float32", [-1, 3, 4]),
        _tensor("scores", "output", "float32", [-1, 3]),
        _tensor("labels", "output", "int64", [-1, 3]),
    ],
    "layers": {
        "source": "engine inspector",
        "count": 2,
        "by_type": {"CONVOLUTION": 2},
        "output_types": {"Half": 2},
    },
    "build": {
        "seconds": 1.5,
        "machine": {"cpu": "a processor"} | _BASE["build"]["machine"],
    },
    "model": json.loads(metadata()),
}
