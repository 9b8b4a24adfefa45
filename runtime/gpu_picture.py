"""Pictures that lie on the GPU already, such as tensors of PyTorch or CuPy: read where they are."""

from __future__ import annotations

from typing import Any, Protocol, TypeGuard

from runtime.errors import UserError

_CUDA_DEVICES = (2, 13)
"""DLPack's device types of CUDA memory: plain and managed."""
_UNORDERED = -1
"""Instead of a stream: do not wait for whoever writes the array."""


class SharedArray(Protocol):
    """An array of PyTorch, CuPy, JAX."""

    def __dlpack_device__(self) -> tuple[Any, Any]:
        """Where it lies: a kind of device, and which."""


def is_on_gpu(array: Any) -> TypeGuard[SharedArray]:
    """Whether an array lies on a GPU and says so, by DLPack or the CUDA array interface."""
    if hasattr(array, "__dlpack_device__"):
        return array.__dlpack_device__()[0] in _CUDA_DEVICES
    return hasattr(array, "__cuda_array_interface__")


class GpuPicture:
    """A picture on the GPU, shared by DLPack or the CUDA array interface; nothing is copied."""

    def __init__(self, array: Any) -> None:
        """Look at an array of any library.

        Args:
            array: uint8 RGB (h, w, 3), contiguous; or such BGR in ``array[..., ::-1]``.

        Raises:
            UserError: it is none, or cuda-core is missing.
        """
        view = _view(array, _UNORDERED)
        self.array = array
        """Kept, so that its memory stays."""
        self.shape: tuple[int, ...] = tuple(view.shape)
        """(h, w, 3)."""
        is_picture = len(self.shape) == 3 and self.shape[2] == 3 and 0 not in self.shape
        if not is_picture or str(view.dtype) != "uint8":
            raise UserError(
                f"a picture must be a uint8 RGB array (h, w, 3), got {view.dtype} {self.shape}"
            )
        self.device: int = view.device_id
        """CUDA's index of its GPU."""
        row = 3 * self.shape[1]
        strides = tuple(view.strides) if view.strides is not None else (row, 3, 1)
        self.reversed = strides[2] == -1
        """The channels are stored as BGR."""
        if strides not in ((row, 3, 1), (row, 3, -1)):
            raise UserError(
                f"a picture on the GPU must be contiguous, got strides {strides} for {self.shape}; "
                "copy it first, in PyTorch by .contiguous()"
            )

    def address_in(self, stream: int) -> int:
        """Where its first byte lies; ``stream`` waits for whoever is still writing it."""
        pointer: int = _view(self.array, stream).ptr
        return pointer - 2 * self.reversed  # of R, which is stored last


def _view(array: Any, stream: int) -> Any:
    try:
        from cuda.core.utils import StridedMemoryView
    except ImportError as error:
        raise UserError(
            f"pictures on the GPU need cuda-core ({error}); pip install cuda-core, or give a numpy "
            "array"
        ) from error
    return StridedMemoryView.from_any_interface(array, stream_ptr=stream)
