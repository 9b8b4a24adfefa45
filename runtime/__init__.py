"""Runs a Co-DETR model file: picture in, detections out.

from runtime import Detector
with Detector("model.ref.onnx") as detector:
    detections = detector("street.jpg")  # or uint8 RGB (h, w, 3)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from runtime.detections import Detections
    from runtime.detector import Detector
    from runtime.errors import UserError
    from runtime.images import read_image

__all__ = ["Detections", "Detector", "UserError", "read_image"]

_MODULE_OF = {
    "Detections": "runtime.detections",
    "Detector": "runtime.detector",
    "UserError": "runtime.errors",
    "read_image": "runtime.images",
}


def __getattr__(name: str) -> Any:
    """Import public names on first use: ``--help`` must not wait for OpenCV (PEP 562)."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_MODULE_OF[name]), name)
