"""Pictures that lie on the GPU, as far as that needs none: memory of the CPU that says so."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from runtime import Detector
from runtime.errors import UserError
from runtime.gpu_picture import GpuPicture, is_on_gpu

NO_STREAM = -1


class SaysItIsOnGpu:
    """An array of the CPU."""

    def __init__(self, array):
        self.array = array

    def __dlpack_device__(self):
        return 2, 0

    def __dlpack__(self, **_):
        return self.array.__dlpack__()


def picture(height=5, width=7, channels=3, dtype=np.uint8):
    return np.zeros((height, width, channels), dtype)


def test_who_is_on_the_gpu():
    class CudaArray:
        def __init__(self):
            self.__cuda_array_interface__ = {}

    assert is_on_gpu(SaysItIsOnGpu(picture()))
    assert is_on_gpu(CudaArray())
    for other in (picture(), torch.zeros(5, 7, 3), [picture()], "a.png"):
        assert not is_on_gpu(other)


def test_rgb_and_bgr_are_read_where_they_are():
    array = picture()
    for given, is_reversed in ((array, False), (array[..., ::-1], True)):
        found = GpuPicture(given)
        assert found.shape == (5, 7, 3)
        assert found.reversed == is_reversed
        assert found.address_in(NO_STREAM) == array.ctypes.data


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (
            picture(dtype=np.float32),
            r"must be a uint8 RGB array \(h, w, 3\), got float32 \(5, 7, 3\)",
        ),
        (picture(channels=4), r"got uint8 \(5, 7, 4\)"),
        (picture()[0], r"got uint8 \(7, 3\)"),
        (picture(height=0), r"got uint8 \(0, 7, 3\)"),
        (picture()[:, 1:], r"must be contiguous, got strides \(21, 3, 1\) for \(5, 6, 3\)"),
        (picture()[::-1], r"must be contiguous, got strides \(-21, 3, 1\)"),
        (np.zeros((3, 5, 7), np.uint8).transpose(1, 2, 0), r"got strides \(7, 1, 35\)"),
    ],
)
def test_others_are_refused(array, message):
    with pytest.raises(UserError, match=message):
        GpuPicture(array)


def test_a_model_on_the_cpu_refuses_them(model):
    on_gpu = SaysItIsOnGpu(picture())
    with Detector(model) as detector:
        for given in (on_gpu, [picture(), on_gpu]):
            with pytest.raises(UserError, match="lies on the GPU, and here the CPU prepares them"):
                detector(given)
        assert len(list(detector.stream([picture()]))) == 1
