"""Facts about this machine that help to build the same engine again."""

from __future__ import annotations

import ctypes
import os
import platform
import subprocess
from typing import Any

from runtime.machine import processor


def describe_machine() -> dict[str, Any]:
    """Operating system, processor, Python, and the GPU (null with a reason if there is none)."""
    gpu, reason = describe_gpu()
    return {
        "os": platform.platform(),
        "cpu": processor(),
        "cpu_count": os.cpu_count(),
        "python": platform.python_version(),
        "gpu": gpu,
        "no_gpu_because": reason,
    }


def describe_gpu() -> tuple[dict[str, Any] | None, str | None]:
    """The GPU that CUDA uses first: ``{name, compute_capability, driver, cuda}``.

    Returns:
        The GPU and None, or None and the reason why there is none.
    """
    command = [
        "nvidia-smi",
        "--query-gpu=name,compute_cap,driver_version",
        "--format=csv,noheader",
    ]
    # CUDA counts only the visible GPUs, nvidia-smi counts all.
    if visible := os.environ.get("CUDA_VISIBLE_DEVICES"):
        command.append(f"--id={visible.split(',')[0]}")
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
    except FileNotFoundError:
        return None, "nvidia-smi is not installed: no NVIDIA driver here"
    except (subprocess.SubprocessError, OSError) as error:
        return None, f"nvidia-smi failed: {error}"
    fields = [field.strip() for field in done.stdout.partition("\n")[0].split(",")]
    if len(fields) != 3:  # it says so in words, and some versions call that a success
        return None, f"nvidia-smi found no GPU: {fields[0]}"
    name, compute_capability, driver = fields
    return {
        "name": name,
        "compute_capability": compute_capability,
        "driver": driver,
        "cuda": _cuda_of_driver(),
    }, None


def start_cuda() -> str | None:
    """Let CUDA use its first GPU, as TensorRT will; returns why it cannot, or None.

    It cannot where none is visible, the GPU's memory is full, or another process has it alone.
    """
    driver = ctypes.CDLL("libcuda.so.1")
    device, context = ctypes.c_int(), ctypes.c_void_p()
    error = (
        driver.cuInit(0)
        or driver.cuDeviceGet(ctypes.byref(device), 0)
        # The context that all CUDA libraries in this process share, kept until it ends.
        or driver.cuDevicePrimaryCtxRetain(ctypes.byref(context), device)
    )
    if not error:
        return None
    name = ctypes.c_char_p()
    driver.cuGetErrorName(error, ctypes.byref(name))
    return f"CUDA cannot start: {(name.value or str(error).encode()).decode()}"


def _cuda_of_driver() -> str | None:
    """The newest CUDA version that the driver speaks: "13.0"."""
    version = ctypes.c_int()
    try:
        ctypes.CDLL("libcuda.so.1").cuDriverGetVersion(ctypes.byref(version))
    except OSError:
        return None
    return f"{version.value // 1000}.{version.value % 1000 // 10}"
