"""The TensorRT operators, of attention, norms and linear layers: finds and loads their library.

The C++ and CUDA sources are in ``csrc``; ``python -m plugin build`` compiles them. The public names
are loaded on first use, so that importing this package costs nothing.
"""

from __future__ import annotations

import importlib
from typing import Any

OP_TYPES = (
    "CoDetrMSDeformAttn",
    "CoDetrWindowAttention",
    "CoDetrGroupNorm",
    "CoDetrLinear",
    "CoDetrLinearAdd",
    "CoDetrLayerNorm",
    "CoDetrWindowAttentionToFp8",
    "CoDetrLayerNormToFp8",
    "CoDetrLinearFp8",
    "CoDetrLinearAddFp8",
    "CoDetrLinearFp8ToFp8",
    "CoDetrAddLayerNorm",
    "CoDetrMergeLayerNorm",
)
"""Names of the plugins and op types of the ONNX nodes; their version is "1", their namespace ""."""

_MODULES = {"build_plugin": "build", "library_path": "library", "load": "library"}
__all__ = ["OP_TYPES", "build_plugin", "library_path", "load"]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
