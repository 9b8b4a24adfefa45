"""The few calls of the CUDA runtime that an engine needs, with errors that say what failed."""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from cuda.bindings import runtime as cudart
from numpy.typing import DTypeLike, NDArray

from runtime.closing import Closing
from runtime.errors import UserError

CONTEXT_LOST = (
    "the CUDA context of this process is lost, so no engine in it can be used any more; "
    "start the program again"
)
_LOSING = {
    f"cudaError{name}"
    for name in (
        *("Assert", "Contained", "ECCUncorrectable", "ExternalDevice", "HardwareStackError"),
        *("IllegalAddress", "IllegalInstruction", "InvalidAddressSpace", "InvalidPc"),
        *("LaunchFailure", "LaunchTimeout", "MisalignedAddress", "MpsClientTerminated"),
        *("NvlinkUncorrectable", "TensorMemoryLeak"),
    )
}
"""After these, CUDA says, the process has to be ended and started again."""


class CudaError(RuntimeError):
    """A CUDA call failed; ``ContextLostError`` if that cannot be undone."""


class ContextLostError(CudaError):
    """No further CUDA call of this process will succeed; memory on the GPU is gone."""


class OutOfMemoryError(CudaError, UserError):
    """The GPU or the host has no memory left, which is for the user to change."""


class Gpu(NamedTuple):
    """The GPU that CUDA uses."""

    name: str
    compute_capability: str
    """E.g. ``9.0``."""
    pci_bus_id: str


def check(result: tuple[Any, ...]) -> Any:
    """The value of a CUDA call, or its error as an exception.

    Raises:
        OutOfMemoryError: there was no memory left.
        ContextLostError: this and all later calls fail, until the program is started again.
        CudaError: anything else; with CUDA's name and words for it.
    """
    error, *values = result
    if error == cudart.cudaError_t.cudaErrorMemoryAllocation:
        raise OutOfMemoryError(
            f"{_words(error)}; end other programs on the GPU, or take a smaller input or batch"
        )
    if error.name in _LOSING:
        raise ContextLostError(f"{_words(error)}; {CONTEXT_LOST}")
    if error != cudart.cudaError_t.cudaSuccess:
        raise CudaError(_words(error))
    if len(values) > 1:
        return tuple(values)
    return values[0] if values else None


def _words(error: Any) -> str:
    name, text = (cudart.cudaGetErrorName(error)[1], cudart.cudaGetErrorString(error)[1])
    return f"{name.decode()}: {text.decode()}"


def require_gpu() -> None:
    """Refuse to go on without a GPU that can be used: TensorRT 10.6 would abort the process.

    Raises:
        UserError: there is none, or no driver that is new enough.
        ContextLostError: there is one, but no longer for this process.
    """
    error, _ = cudart.cudaGetDeviceCount()
    if error == cudart.cudaError_t.cudaSuccess:
        # Starts CUDA; that fails where another process keeps the GPU to itself, for one.
        error, *_ = cudart.cudaMemGetInfo()
    if error == cudart.cudaError_t.cudaSuccess:
        return
    if error.name in _LOSING:
        check((error,))
    driver, runtime = check(cudart.cudaDriverGetVersion()), check(cudart.cudaRuntimeGetVersion())
    reason = no_gpu_reason(_words(error), driver, runtime)
    raise UserError(
        f"an engine runs on an NVIDIA GPU, and {reason}; or run the reference graph (.ref.onnx)"
    )


def no_gpu_reason(error: str, driver: int, runtime: int) -> str:
    """Why CUDA finds no GPU, and what to do.

    Args:
        error: CUDA's name and words for it.
        driver: newest CUDA version that the driver speaks, as 12040 for 12.4; 0 without a driver.
        runtime: CUDA version of cuda-python. A driver is new enough from its major version on.
    """
    if not driver:
        return f"there is no NVIDIA driver ({error}); install one"
    if driver // 1000 < runtime // 1000:
        return (
            f"the NVIDIA driver here is made for CUDA {driver // 1000}.{driver % 1000 // 10}, this "
            f"program needs one for {runtime // 1000}.0 or newer; update the driver"
        )
    return (
        f"CUDA offers none ({error}); see whether CUDA_VISIBLE_DEVICES hides it, or another "
        "process fills it or keeps it to itself"
    )


def current_gpu() -> Gpu:
    """The GPU that this thread uses: the first visible one, if nobody chose another.

    Raises:
        CudaError: there is none.
    """
    device = current_device()
    major, minor = (gpu_attribute(f"ComputeCapability{part}") for part in ("Major", "Minor"))
    name: bytes = check(cudart.cudaGetDeviceProperties(device)).name
    pci_bus_id: bytes = check(cudart.cudaDeviceGetPCIBusId(32, device))
    return Gpu(_c_string(name), f"{major}.{minor}", _c_string(pci_bus_id))


def current_device() -> int:
    """CUDA's index of the GPU that this thread uses."""
    device: int = check(cudart.cudaGetDevice())
    return device


def gpu_attribute(name: str) -> int:
    """What CUDA calls ``cudaDevAttr`` and this name, of the GPU that this thread uses."""
    attribute = getattr(cudart.cudaDeviceAttr, f"cudaDevAttr{name}")
    value: int = check(cudart.cudaDeviceGetAttribute(attribute, current_device()))
    return value


def _c_string(text: bytes) -> str:
    return text.partition(b"\0")[0].decode()


def memory_info() -> tuple[int, int]:
    """Bytes of device memory: free, and all there is."""
    free, total = check(cudart.cudaMemGetInfo())
    return free, total


def memory_left() -> str:
    """How much device memory is free, in words; for errors, so it raises none."""
    error, free, total = cudart.cudaMemGetInfo()
    if error != cudart.cudaError_t.cudaSuccess:
        return "how much is free is not known"
    return f"{free / 1e6:,.0f} MB of {total / 1e6:,.0f} MB are free"


def context_is_lost() -> bool:
    """Whether every further CUDA call of this process will fail, as after an illegal access."""
    cudart.cudaGetLastError()  # forget an error that only its own call had
    error, *_ = cudart.cudaDeviceSynchronize()
    return bool(error != cudart.cudaError_t.cudaSuccess)


def new_stream(stack: contextlib.ExitStack) -> Any:
    """A stream that does not wait for the legacy default one; ``stack`` destroys it."""
    stream = check(cudart.cudaStreamCreateWithFlags(cudart.cudaStreamNonBlocking))
    stack.callback(lambda: check(cudart.cudaStreamDestroy(stream)))
    return stream


def new_event(stack: contextlib.ExitStack) -> Any:
    """An event that takes no time; ``stack`` destroys it."""
    event = check(cudart.cudaEventCreateWithFlags(cudart.cudaEventDisableTiming))
    stack.callback(lambda: check(cudart.cudaEventDestroy(event)))
    return event


@contextlib.contextmanager
def _shortage_of(nbytes: int, what: str) -> Iterator[None]:
    """Say how much was asked for where there is no memory left."""
    try:
        yield
    except OutOfMemoryError as error:
        raise OutOfMemoryError(
            f"no room for {nbytes / 1e6:,.1f} MB of {what}, of the GPU's {memory_left()} ({error})"
        ) from error


class DeviceMemory(Closing):
    """Memory on the GPU."""

    def __init__(self, nbytes: int) -> None:
        """Allocate it.

        Raises:
            OutOfMemoryError: the GPU has none left.
        """
        with _shortage_of(nbytes, "memory on the GPU"):
            self.address: int = check(cudart.cudaMalloc(nbytes))

    def close(self) -> None:
        """Free it."""
        address, self.address = self.address, 0
        check(cudart.cudaFree(address))  # nothing happens for 0


class PinnedMemory(Closing):
    """Page-locked memory of the host, which the GPU copies from and to by itself."""

    def __init__(self, nbytes: int) -> None:
        """Allocate it.

        Raises:
            OutOfMemoryError: the host has none left.
        """
        with _shortage_of(nbytes, "page-locked memory"):
            self.address: int = check(cudart.cudaHostAlloc(nbytes, cudart.cudaHostAllocDefault))
        self._bytes = (ctypes.c_byte * nbytes).from_address(self.address)

    def array(self, shape: tuple[int, ...], dtype: DTypeLike, offset: int = 0) -> NDArray[Any]:
        """The memory from byte ``offset`` on as an array; no copy."""
        count = int(np.prod(shape))
        flat: NDArray[Any] = np.frombuffer(memoryview(self._bytes), np.dtype(dtype), count, offset)
        return flat.reshape(shape)

    def close(self) -> None:
        """Free it; arrays of it must not be used any more."""
        address, self.address = self.address, 0
        check(cudart.cudaFreeHost(address))  # nothing happens for 0


def copy_to_device(device: int, host: int, nbytes: int, stream: Any) -> None:
    """Enqueue a copy from pinned memory, by addresses."""
    kind = cudart.cudaMemcpyKind.cudaMemcpyHostToDevice
    check(cudart.cudaMemcpyAsync(device, host, nbytes, kind, stream))


def copy_on_device(to: int, source: int, nbytes: int, stream: Any) -> None:
    """Enqueue a copy within the GPU, by addresses."""
    kind = cudart.cudaMemcpyKind.cudaMemcpyDeviceToDevice
    check(cudart.cudaMemcpyAsync(to, source, nbytes, kind, stream))


def copy_to_host(host: int, device: int, nbytes: int, stream: Any) -> None:
    """Enqueue a copy to pinned memory, by addresses."""
    kind = cudart.cudaMemcpyKind.cudaMemcpyDeviceToHost
    check(cudart.cudaMemcpyAsync(host, device, nbytes, kind, stream))
