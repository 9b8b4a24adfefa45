"""ONNX → engine with TensorRT or TensorRT-RTX: build, manifest, inspection, verification.

The public names are loaded on first use, so that importing this package costs nothing.
"""

from __future__ import annotations

import importlib
from typing import Any

_MODULES = {
    "BuildOptions": "options",
    "BuildResult": "build",
    "build_engine": "build",
    "choose_backend": "backend",
    "inspect_engine": "inspection",
    "verify": "verification",
}
__all__ = list(_MODULES)


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
