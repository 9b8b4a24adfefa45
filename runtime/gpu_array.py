"""Results that stay on the GPU."""

from __future__ import annotations

import weakref
from typing import Any, NamedTuple

import numpy as np
from cuda.bindings import runtime as cudart
from numpy.typing import DTypeLike, NDArray

from runtime.cuda import DeviceMemory, check


class GpuArray:
    """A contiguous array on the GPU; ``torch.as_tensor(array)`` and CuPy share it without a copy.

    Its memory is freed when nobody refers to it any more.
    """

    def __init__(self, shape: tuple[int, ...], dtype: DTypeLike) -> None:
        """Allocate it; what it holds is not said.

        Raises:
            OutOfMemoryError: the GPU has none left.
        """
        self.shape = shape
        self.dtype: np.dtype[Any] = np.dtype(dtype)
        self.nbytes = int(np.prod(shape)) * self.dtype.itemsize
        memory = DeviceMemory(self.nbytes)
        self.address = memory.address
        weakref.finalize(self, memory.close).atexit = False  # the process's memory goes with it

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        """Version 3; without a stream, because all of it is written already."""
        return {
            "version": 3,
            "shape": self.shape,
            "typestr": self.dtype.str,
            "data": (self.address, False),
            "strides": None,
            "stream": None,
        }

    def numpy(self) -> NDArray[Any]:
        """A copy on the host."""
        host = np.empty(self.shape, self.dtype)
        kind = cudart.cudaMemcpyKind.cudaMemcpyDeviceToHost
        check(cudart.cudaMemcpy(host.ctypes.data, self.address, self.nbytes, kind))
        return host


class GpuOutputs(NamedTuple):
    """A model's outputs as ``runtime.backend.RawOutputs``, on the GPU."""

    boxes: GpuArray
    """float32 (B, N, 4) x1 y1 x2 y2 in pixels of the input, clipped to the picture."""
    scores: GpuArray
    """float32 (B, N), highest first."""
    labels: GpuArray
    """int64 (B, N)."""
