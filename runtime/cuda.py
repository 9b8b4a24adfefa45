"""The few calls of the CUDA runtime that an engine needs, with errors that say what failed."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
from cuda.bindings import runtime as cudart
from numpy.typing import DTypeLike, NDArray

from runtime.errors import UserError


class CudaError(RuntimeError):
    """A CUDA call failed; the process's CUDA context may be lost."""


def check(result: tuple[Any, ...]) -> Any:
    """The value of a CUDA call, or its error as an exception.

    Raises:
        CudaError: with CUDA's name and words for it.
    """
    error, *values = result
    if error != cudart.cudaError_t.cudaSuccess:
        name, text = (cudart.cudaGetErrorName(error)[1], cudart.cudaGetErrorString(error)[1])
        raise CudaError(f"{name.decode()}: {text.decode()}")
    return values[0] if values else None


def require_gpu() -> None:
    """Refuse to go on without a GPU: TensorRT 10.6 would abort the process.

    Raises:
        UserError: there is no GPU, or no driver that is new enough.
    """
    try:
        count = check(cudart.cudaGetDeviceCount())
    except CudaError as error:
        raise UserError(
            f"an engine runs on an NVIDIA GPU, and CUDA finds none ({error}); "
            "run the reference graph (.ref.onnx) instead"
        ) from error
    if not count:
        raise UserError("an engine runs on an NVIDIA GPU, and there is none; run the .ref.onnx")


class Buffer:
    """Device memory of one tensor, and page-locked host memory that it is copied from or to."""

    def __init__(self, nbytes: int) -> None:
        """Allocate both.

        Raises:
            CudaError: out of memory, for one.
        """
        self.device: int = check(cudart.cudaMalloc(nbytes))
        self._host: int = check(cudart.cudaHostAlloc(nbytes, cudart.cudaHostAllocDefault))
        self._bytes = (ctypes.c_byte * nbytes).from_address(self._host)

    def host(self, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        """The start of the host memory as an array; no copy."""
        count = int(np.prod(shape))
        flat: NDArray[Any] = np.frombuffer(memoryview(self._bytes), np.dtype(dtype), count)
        return flat.reshape(shape)

    def copy_to_device(self, nbytes: int, stream: Any) -> None:
        """Enqueue a copy of the first ``nbytes``."""
        kind = cudart.cudaMemcpyKind.cudaMemcpyHostToDevice
        check(cudart.cudaMemcpyAsync(self.device, self._host, nbytes, kind, stream))

    def copy_to_host(self, nbytes: int, stream: Any) -> None:
        """Enqueue a copy of the first ``nbytes``."""
        kind = cudart.cudaMemcpyKind.cudaMemcpyDeviceToHost
        check(cudart.cudaMemcpyAsync(self._host, self.device, nbytes, kind, stream))

    def close(self) -> None:
        """Free both; arrays from ``host`` must not be used any more."""
        check(cudart.cudaFree(self.device))
        check(cudart.cudaFreeHost(self._host))
