"""What a build needs of this machine, asked for before it starts.

TensorRT 10.6 ends the whole process where CUDA cannot start, and an export takes minutes; so what
would fail late is found out early.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from runtime.compatibility import numbers_of
from runtime.errors import UserError
from trt_build.backend import Backend
from trt_build.machine import describe_gpu, start_cuda

_OLDEST_DRIVERS = {12: 525, 13: 580}
"""The first driver for each major version of CUDA."""


def require_gpu(backend: Backend) -> str:
    """The name of the GPU that a backend builds on.

    Raises:
        UserError: there is none, or CUDA cannot use it.
    """
    gpu, reason = describe_gpu()
    if gpu is not None:
        reason = driver_problem(gpu["driver"], gpu["cuda"], backend.cuda_major()) or start_cuda()
    if gpu is None or reason is not None:
        raise UserError(
            f"{backend.title} builds on the GPU that runs the engine ({reason}); "
            "use --backend tensorrt-rtx"
        )
    return str(gpu["name"])


def driver_problem(driver: str, cuda: str | None, needed: int) -> str | None:
    """Why a driver does not do for a program made for a version of CUDA; None if it does.

    Args:
        driver: its version: "580.65.06".
        cuda: the newest CUDA version that it speaks: "13.0". None: its library is not there.
        needed: the major version of CUDA; minor ones do not matter.
    """
    if cuda is None:
        return (
            f"driver {driver} is there but its libcuda.so.1 is not; "
            "a container gets it with NVIDIA_DRIVER_CAPABILITIES=compute,utility"
        )
    if numbers_of(cuda)[0] < needed:
        oldest = f", {_OLDEST_DRIVERS[needed]} or newer" if needed in _OLDEST_DRIVERS else ""
        return (
            f"it needs a driver for CUDA {needed}{oldest}, and driver {driver} is for CUDA {cuda}; "
            "update the driver"
        )
    return None


def require_writable(outputs: Iterable[Path]) -> None:
    """Refuse files that cannot be written.

    Raises:
        UserError: one is a folder, or lies where nothing can be written.
    """
    for output in outputs:
        if output.is_dir():
            raise UserError(f"cannot write {output}: it is a folder; give a file name")
        folder = next(parent for parent in output.absolute().parents if parent.exists())
        if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
            raise UserError(f"cannot write {output}: {folder} is not a folder that can be written")
