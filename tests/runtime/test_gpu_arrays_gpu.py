"""Pictures and outputs that stay on the GPU, shared with PyTorch. Needs a GPU."""

from __future__ import annotations

import gc

import numpy as np
import pytest
import torch

from runtime import Detector
from runtime.errors import UserError
from runtime.gpu_picture import GpuPicture
from tests.runtime.test_engine_gpu_errors import MIB, assert_same, load, used_memory
from tests.runtime.test_pictures_gpu import noise

pytestmark = [pytest.mark.gpu, pytest.mark.alone]


def on_gpu(image):
    return GpuPicture(torch.from_numpy(image).cuda())


def test_tensors_equal_arrays(small_engine):
    images = [noise(90, 200, seed=1), noise(300, 100, seed=2), noise(128, 192, seed=3)]
    with load(small_engine) as model:
        wanted = model.infer_images(images)
        assert_same(model.infer_images([on_gpu(image) for image in images]), wanted)
        mixed = [on_gpu(images[0]), images[1], on_gpu(images[2])]
        assert_same(model.infer_images(mixed), wanted)


def test_detector_takes_tensors(small_engine):
    image = noise(300, 500)
    tensor = torch.from_numpy(image).cuda()
    with Detector(load(small_engine)) as detector:
        wanted = detector(image)
        (streamed, from_stream), *others = detector.stream([tensor])
        assert streamed is tensor
        assert not others
        for found in (detector(tensor), detector([tensor])[0], from_stream):
            np.testing.assert_array_equal(found.boxes, wanted.boxes)
            np.testing.assert_array_equal(found.scores, wanted.scores)
        with pytest.raises(UserError, match=r"must be contiguous.*\.contiguous\(\)"):
            detector(tensor.permute(2, 0, 1).contiguous().permute(1, 2, 0))
        with pytest.raises(UserError, match="must be a uint8 RGB array"):
            detector(tensor.float())


def test_waits_for_whoever_writes_the_tensor(small_engine):
    image = noise(300, 500)
    with load(small_engine) as model:
        wanted = model.infer_images([image])
        source = torch.from_numpy(image).cuda()
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            late = torch.zeros_like(source)
            torch.cuda._sleep(200_000_000)  # cycles: a tenth of a second
            late.copy_(source)
            found = model.infer_images([GpuPicture(late)])
        assert_same(found, wanted)


def test_outputs_stay_on_the_gpu(small_engine):
    images = [noise(90, 200, seed=1), noise(300, 100, seed=2)]
    with load(small_engine) as model:
        wanted = model.infer_images(images)
        found = model.infer_images_on_gpu(images)
        model.infer_images([noise(50, 50)])  # what comes later does not change them
        assert_same(type(wanted)(*(array.numpy() for array in found)), wanted)
        for array, host in zip(found, wanted, strict=True):
            tensor = torch.as_tensor(array, device="cuda")
            assert tensor.data_ptr() == array.address
            np.testing.assert_array_equal(tensor.cpu().numpy(), host)


def test_outputs_on_the_gpu_are_freed(small_engine):
    with load(small_engine) as model:
        model.infer_images_on_gpu([noise(50, 50)])
        before = used_memory()
        for _ in range(2000):  # 2000 x 8 KB at least: 4 MB and more, in blocks of 2 MB
            model.infer_images_on_gpu([noise(50, 50)])
        gc.collect()
        assert used_memory() <= before + 4 * MIB
