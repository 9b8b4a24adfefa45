"""What TensorRT says, for people."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

_HARMLESS = (
    # Labels are int64, as in ONNX; TensorRT 10 and 11 warn of every such output of the ONNX.
    "Make sure output labels has Int64 binding.",
)
"""Parts of warnings that are right and change nothing."""


def make_logger(trt: ModuleType, *, verbose: bool = False) -> Any:
    """A TensorRT logger that prints warnings to stderr and keeps errors in the list ``errors``.

    Errors are kept, not printed: the call that failed says them in its own words. Warnings that
    are known to be harmless are dropped.
    With ``verbose`` everything is printed as it comes.
    """
    severities = trt.ILogger.Severity
    errors = (severities.INTERNAL_ERROR, severities.ERROR)

    class Logger(trt.ILogger):  # type: ignore[name-defined,misc] # known at run time
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity in errors:
                self.errors.append(message)
            harmless = any(part in message for part in _HARMLESS)
            if verbose or (severity == severities.WARNING and not harmless):
                print(f"{trt.__name__}: {severity.name.lower()}: {message}", file=sys.stderr)

    return Logger()


def one_line(message: str) -> str:
    """A backend's message on one line, less the CUDA error it adds where there is no GPU."""
    lines = (line.strip() for line in message.splitlines())
    return " ".join(line for line in lines if line and "::catchCudaError::" not in line)
