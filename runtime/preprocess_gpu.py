"""Pictures on the GPU -> the inputs of an engine there, as runtime/preprocess.py on the CPU."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from cuda.bindings import driver
from cuda.bindings import runtime as cudart

from runtime.backend import ModelSpec
from runtime.cuda import CudaError, check, current_device, current_gpu
from runtime.gpu_picture import GpuPicture
from runtime.images import Image
from runtime.nvrtc import compile_cubin
from runtime.preprocess import Placement, batch_of, input_size, place

SOURCE = Path(__file__).with_name("preprocess.cu")
_BLOCK = (32, 8)
"""Threads in x and y; one for each pixel of the input."""


class PictureArguments(ctypes.Structure):
    """``Picture`` of the CUDA source."""

    _fields_ = (
        ("pixels", ctypes.c_void_p),
        ("input", ctypes.c_void_p),
        ("mask", ctypes.c_void_p),
        ("step_y", ctypes.c_double),
        ("step_x", ctypes.c_double),
        ("h", ctypes.c_int),
        ("w", ctypes.c_int),
        ("valid_h", ctypes.c_int),
        ("valid_w", ctypes.c_int),
        ("height", ctypes.c_int),
        ("width", ctypes.c_int),
        ("reversed", ctypes.c_int),
        ("mean", ctypes.c_float * 3),
        ("std", ctypes.c_float * 3),
    )


class StoredPicture(NamedTuple):
    """A picture as it is copied to the GPU, or lies there."""

    pixels: Image | GpuPicture
    """(h, w, 3)."""
    reversed: bool
    """The channels are stored as BGR."""
    placement: Placement

    @classmethod
    def of(cls, image: Image | GpuPicture, spec: ModelSpec) -> StoredPicture:
        """From RGB; a view such as ``bgr[..., ::-1]`` is copied as it is stored, which is faster.

        Raises:
            UserError: it is not uint8 (h, w, 3).
        """
        placement = place(image, spec)
        if isinstance(image, GpuPicture):
            return cls(image, image.reversed, placement)
        is_reversed = image.strides[2] < 0
        return cls(image[..., ::-1] if is_reversed else image, is_reversed, placement)

    def arguments(
        self, spec: ModelSpec, size: tuple[int, int], pixels: int, row: int, inputs: Inputs
    ) -> PictureArguments:
        """Of the kernel that brings this picture from address ``pixels`` into a row of ``size``."""
        h, w, valid_h, valid_w = self.placement
        height, width = size
        area = height * width
        return PictureArguments(
            pixels=pixels,
            input=inputs.batch_inputs + 4 * 3 * area * row,
            mask=inputs.img_masks and inputs.img_masks + 4 * area * row,
            step_y=1 / (valid_h / h),  # rounded as cv2 does
            step_x=1 / (valid_w / w),
            h=h,
            w=w,
            valid_h=valid_h,
            valid_w=valid_w,
            height=height,
            width=width,
            reversed=self.reversed,
            mean=spec.metadata.mean,
            std=spec.metadata.std,
        )


class Inputs(NamedTuple):
    """Addresses of a model's inputs on the GPU."""

    batch_inputs: int
    img_masks: int | None


class GpuPreprocessor:
    """The kernel for one model; calls share it."""

    def __init__(self, spec: ModelSpec, inputs: Inputs) -> None:
        """Compile the kernel for the GPU that this thread uses.

        Raises:
            NvrtcError: there is no NVRTC, or it does not know this GPU.
            CudaError: the GPU failed.
        """
        self._spec = spec
        self._inputs = inputs
        self._kernel = load_kernel(current_device())

    def shapes(self, images: Sequence[Image | GpuPicture]) -> dict[str, tuple[int, ...]]:
        """Shapes of the model's inputs for these pictures.

        Raises:
            UserError: there are too many.
        """
        size = input_size((place(image, self._spec) for image in images), self._spec)
        rows = batch_of(images, self._spec)
        shapes: dict[str, tuple[int, ...]] = {"batch_inputs": (rows, 3, *size)}
        return shapes | ({"img_masks": (rows, *size)} if self._spec.has_mask else {})

    def enqueue(
        self, pictures: Sequence[StoredPicture], pixels: Sequence[int], stream: Any
    ) -> None:
        """Fill the inputs.

        Args:
            pictures: at most ``spec.batch``; rows that they leave of a fixed batch become 0.
            pixels: where those lie on the GPU that were copied to it, (h, w, 3).
            stream: to which they were copied.

        Raises:
            CudaError: the GPU failed.
        """
        size = input_size((picture.placement for picture in pictures), self._spec)
        copied = iter(pixels)
        for row, picture in enumerate(pictures):
            if isinstance(picture.pixels, GpuPicture):
                address = picture.pixels.address_in(int(stream))
            else:
                address = next(copied)
            self._launch(picture.arguments(self._spec, size, address, row, self._inputs), stream)
        self._clear(len(pictures), size, stream)

    def _launch(self, arguments: PictureArguments, stream: Any) -> None:
        grid = (-(-arguments.width // _BLOCK[0]), -(-arguments.height // _BLOCK[1]))
        pointers = (ctypes.c_void_p * 1)(ctypes.addressof(arguments))
        _check(
            driver.cuLaunchKernel(
                *(self._kernel, *grid, 1, *_BLOCK, 1),
                *(0, int(stream), ctypes.addressof(pointers), 0),
            )
        )

    def _clear(self, first_row: int, size: tuple[int, int], stream: Any) -> None:
        """Set the rows of a fixed batch from there on to 0: pictures of the mean colour."""
        rows = (self._spec.batch or first_row) - first_row
        area = 4 * size[0] * size[1]
        for address, nbytes in (
            (self._inputs.batch_inputs, 3 * area),
            (self._inputs.img_masks, area),
        ):
            if address and rows:
                begin = address + first_row * nbytes
                check(cudart.cudaMemsetAsync(begin, 0, rows * nbytes, stream))


@functools.cache
def load_kernel(device: int) -> Any:
    """The kernel, compiled for a GPU and loaded to it; once in a process.

    Args:
        device: CUDA's index of the GPU that this thread uses.

    Raises:
        NvrtcError: there is no NVRTC, or it does not know this GPU.
        CudaError: the GPU failed.
    """
    del device  # only tells the results apart
    cubin = compile_cubin(SOURCE.read_text(), SOURCE.name, current_gpu().compute_capability)
    module = _check(driver.cuModuleLoadData(cubin))
    return _check(driver.cuModuleGetFunction(module, b"preprocess"))


def _check(result: tuple[Any, ...]) -> Any:
    """The value of a call of the driver, or its error as an exception."""
    error, *values = result
    if error != driver.CUresult.CUDA_SUCCESS:
        name, text = (driver.cuGetErrorName(error)[1], driver.cuGetErrorString(error)[1])
        raise CudaError(f"{name.decode()}: {text.decode()}")
    return values[0] if values else None
