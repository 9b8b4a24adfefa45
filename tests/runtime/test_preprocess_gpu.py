"""The preprocessing kernel without a GPU: run on the CPU, and compiled for GPUs by NVRTC."""

import ctypes
import shutil
import subprocess
import sys
from pathlib import Path

import cuda
import numpy as np
import pytest

from runtime.errors import UserError
from runtime.nvrtc import NvrtcError, compile_cubin
from runtime.preprocess import batch_of, input_size, place, prepare_batch
from runtime.preprocess_gpu import SOURCE, Inputs, PictureArguments, StoredPicture
from tests.runtime.test_preprocess import spec
from tests.synthetic_images import picture

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    """The kernel compiled for the host."""
    if shutil.which("c++") is None:
        pytest.skip("the kernel cannot be compiled for the host without c++")
    path = tmp_path_factory.mktemp("preprocess") / "emulation.so"
    command = ["c++", "-std=c++17", "-O2", "-shared", "-fPIC", "-Wall", "-Wextra", "-Werror"]
    command += ["-I", SOURCE.parent, "-o", path]
    subprocess.run([*command, Path(__file__).with_name("preprocess_emulation.cpp")], check=True)
    return ctypes.CDLL(str(path))


def prepare(library, images, wanted):
    """As ``prepare_batch``, by the kernel; into rows that hold something else before."""
    rows = batch_of(images, wanted)
    stored = [StoredPicture.of(image, wanted) for image in images]
    size = input_size((one.placement for one in stored), wanted)
    pixels = np.full((rows, 3, *size), 7, np.float32)
    masks = np.full((rows, *size), 7, np.float32)
    inputs = Inputs(pixels.ctypes.data, masks.ctypes.data if wanted.has_mask else None)
    for row, one in enumerate(stored):
        copied = np.ascontiguousarray(one.pixels)
        arguments = one.arguments(wanted, size, copied.ctypes.data, row, inputs)
        library.emulate(ctypes.byref(arguments))
    return pixels, masks


def assert_equal(library, images, wanted):
    """To the bit, which is more than the one grey level that was asked for."""
    batch = prepare_batch(images, wanted)
    pixels, masks = prepare(library, images, wanted)
    np.testing.assert_array_equal(pixels, batch.batch_inputs)
    if wanted.has_mask:
        np.testing.assert_array_equal(masks, batch.img_masks)
    else:
        assert (masks == 7).all()


SIZES = [
    *[(48, 64), (96, 128), (24, 32), (30, 50), (50, 30), (97, 101), (480, 640), (1080, 1920)],
    *[(1, 1), (1, 2), (2, 1), (10000, 10), (10, 10000), (3, 4000), (47, 63), (49, 65)],
]


@pytest.mark.parametrize("mask", [True, False], ids=["letterbox", "stretch"])
@pytest.mark.parametrize("size", SIZES, ids=lambda size: "x".join(map(str, size)))
def test_the_kernel_equals_the_cpu_path(library, size, mask):
    noise = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    assert_equal(library, [noise], spec(48, 64, has_mask=mask))


@pytest.mark.parametrize("size", [(427, 640), (1080, 1920), (333, 500), (4000, 1000)])
def test_larger_inputs(library, size):
    noise = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    assert_equal(library, [noise], spec(320, 608))


def test_random_sizes(library):
    rng = np.random.default_rng(1)
    for mask in (True, False) * 25:
        h, w, height, width = (int(2 ** rng.uniform(0, 8)) for _ in range(4))
        noise = rng.integers(0, 256, (h, w, 3), np.uint8)
        assert_equal(library, [noise], spec(height, width, has_mask=mask))


def test_every_row_of_a_batch(library):
    images = [picture(30, 50, seed=2), picture(50, 30, seed=3), picture(7, 9, seed=4)]
    assert_equal(library, images, spec(48, 64))


@pytest.mark.parametrize("size", [(40, 100), (100, 60), (1000, 10), (1, 1)])
def test_inputs_of_any_size(library, size):
    wanted = spec(128, 160, smallest=(64, 64))
    assert_equal(library, [picture(*size, seed=2)], wanted)
    assert_equal(library, [picture(*size, seed=2), picture(20, 100, seed=3)], wanted)


def test_bgr_is_copied_as_it_is_stored(library):
    image = picture(30, 50, seed=2)
    bgr = np.ascontiguousarray(image[..., ::-1])
    stored = StoredPicture.of(bgr[..., ::-1], spec(48, 64))
    assert stored.reversed
    assert stored.pixels.flags.c_contiguous
    np.testing.assert_array_equal(stored.pixels, bgr)
    assert_equal(library, [bgr[..., ::-1], image, image[::-1, ::-1]], spec(48, 64))


def test_arguments_are_those_of_the_source(library):
    library.picture_size.restype = ctypes.c_size_t
    assert library.picture_size() == ctypes.sizeof(PictureArguments)


@pytest.mark.parametrize("compute_capability", ["7.5", "8.9", "9.0", "12.0"])
def test_nvrtc_compiles_the_kernel(compute_capability):
    cubin = compile_cubin(SOURCE.read_text(), SOURCE.name, compute_capability)
    assert cubin.startswith(b"\x7fELF")
    assert b"preprocess" in cubin


def test_what_nvrtc_cannot_compile():
    with pytest.raises(NvrtcError, match="invalid value for --gpu-architecture"):
        compile_cubin(SOURCE.read_text(), SOURCE.name, "99.0")
    with pytest.raises(NvrtcError, match=r'ab\.cu\(1\): error: identifier "y" is undefined') as e:
        compile_cubin("__device__ int x = y;", "ab.cu", "9.0")
    assert "\n" not in str(e.value)


def test_without_nvrtc(tmp_path):
    """In a Python that has cuda-bindings and nothing else."""
    (folder,) = set(cuda.__path__)
    (tmp_path / "cuda").symlink_to(folder)
    code = """if True:
        from runtime.nvrtc import NvrtcError, compile_cubin
        try:
            compile_cubin("", "a.cu", "9.0")
            print("found")
        except NvrtcError as error:
            print(error)
    """
    # -S: without this environment's own packages.
    done = subprocess.run(
        [sys.executable, "-S", "-c", code],
        env={"PYTHONPATH": f"{tmp_path}:{ROOT}"},
        capture_output=True,
        text=True,
        check=True,
    )
    if done.stdout == "found\n":
        pytest.skip("this machine has an NVRTC outside of Python")
    assert "libnvrtc" in done.stdout
    assert done.stdout.endswith("; pip install nvidia-cuda-nvrtc\n")


def test_wrong_number_of_pictures():
    images = [picture(8, 8, seed=0)] * 3
    assert batch_of(images, spec(48, 64)) == 3
    assert batch_of(images, spec(48, 64, batch=4)) == 4
    for take in (batch_of, prepare_batch):
        with pytest.raises(UserError, match="takes 1 to 2 pictures at a time, got 3"):
            take(images, spec(48, 64, batch=2))
        with pytest.raises(UserError, match="takes 1 to 2 pictures at a time, got 0"):
            take([], spec(48, 64, batch=2))
        with pytest.raises(UserError, match="takes one picture or more at a time, got 0"):
            take([], spec(48, 64))


def test_scale_of_a_placement():
    image = np.zeros((30, 50, 3), np.uint8)
    assert place(image, spec(48, 64)) == (30, 50, 38, 64)
    assert place(image, spec(48, 64)).scale == (64 / 50, 38 / 30)
    assert place(image, spec(48, 64, has_mask=False)) == (30, 50, 48, 64)
