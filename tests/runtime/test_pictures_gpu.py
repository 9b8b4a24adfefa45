"""Pictures preprocessed on the GPU, and calls that overlap. Needs a GPU."""

from __future__ import annotations

import ctypes
import threading
import time
from contextlib import ExitStack

import numpy as np
import pytest

from runtime.errors import UserError
from runtime.preprocess import prepare_batch
from tests.runtime.test_engine_gpu_errors import MIB, assert_same, load, used_memory
from tests.runtime.test_preprocess import spec
from tests.runtime.test_preprocess_gpu import SIZES

pytestmark = [pytest.mark.gpu, pytest.mark.alone]

LATE = 20


def noise(*size, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)


def pictures(count, seed=0):
    """Of mixed sizes, some of them BGR."""
    rng = np.random.default_rng(seed)
    made = [noise(*rng.integers(1, 700, 2), seed=seed + i) for i in range(count)]
    return [image[..., :: -1 if i % 3 == 1 else 1] for i, image in enumerate(made)]


def fetched(address, shape):
    """float32 from the GPU."""
    from runtime.cuda import check, cudart

    array = np.empty(shape, np.float32)
    kind = cudart.cudaMemcpyKind.cudaMemcpyDeviceToHost
    check(cudart.cudaMemcpy(array.ctypes.data, address, array.nbytes, kind))
    return array


def prepare(images, wanted):
    """As ``prepare_batch``, by the kernel; into memory that holds something else before."""
    from runtime.cuda import DeviceMemory, check, cudart, new_stream
    from runtime.preprocess_gpu import GpuPreprocessor, Inputs, StoredPicture
    from runtime.slots import Slot

    rows = wanted.batch or len(images)
    shapes = {
        "batch_inputs": (rows, 3, wanted.height, wanted.width),
        "img_masks": (rows, wanted.height, wanted.width),
    }
    with ExitStack() as stack:
        memory = {}
        for name, shape in shapes.items():
            nbytes = 4 * int(np.prod(shape))
            memory[name] = stack.enter_context(DeviceMemory(nbytes)).address
            check(cudart.cudaMemset(memory[name], 0x7F, nbytes))
        check(cudart.cudaDeviceSynchronize())
        stream, slot = new_stream(stack), stack.enter_context(Slot({}))
        inputs = Inputs(memory["batch_inputs"], memory["img_masks"] if wanted.has_mask else None)
        stored = [StoredPicture.of(image, wanted) for image in images]
        staged = slot.stage([image.pixels for image in stored])
        slot.start(stream)
        GpuPreprocessor(wanted, inputs).enqueue(stored, staged, stream)
        check(cudart.cudaStreamSynchronize(stream))
        return [fetched(memory[name], shape) for name, shape in shapes.items()]


@pytest.mark.parametrize("batch", [None, 20], ids=["dynamic", "filled_up"])
@pytest.mark.parametrize("mask", [True, False], ids=["letterbox", "stretch"])
def test_the_kernel_equals_the_cpu_path(mask, batch):
    images = [noise(*size) for size in SIZES]
    for wanted in (spec(48, 64, has_mask=mask, batch=batch), spec(320, 608, has_mask=mask)):
        pixels, masks = prepare(images, wanted)
        expected = prepare_batch(images, wanted)
        np.testing.assert_array_equal(pixels, expected.batch_inputs)
        if mask:
            np.testing.assert_array_equal(masks, expected.img_masks)


def test_an_engine_gets_what_the_cpu_path_prepares(small_engine):
    with load(small_engine) as model:
        assert model.preprocesses_on_gpu
        addresses = model.engine.addresses
        for count in (1, 1, 8, 3, 3):
            images = pictures(count, seed=count)
            batch = prepare_batch(images, model.spec)
            wanted = model.infer(batch.batch_inputs, batch.img_masks)
            assert_same(model.infer_images(images), wanted)
            for name in ("batch_inputs", "img_masks"):
                expected = getattr(batch, name)
                found = fetched(addresses[name], expected.shape)
                np.testing.assert_array_equal(found, expected)


def test_detections_are_those_of_the_cpu_path(small_engine):
    from runtime import Detector

    images = pictures(5)
    with Detector(load(small_engine), max_batch=2) as detector:
        batches = [images[:2], images[2:4], images[4:]]
        prepared = [prepare_batch(batch, detector.model.spec) for batch in batches]
        wanted = [
            detections
            for batch in prepared
            for detections in detector.postprocess(
                detector.model.infer(batch.batch_inputs, batch.img_masks), batch.scales
            )
        ]
        for found, expected in zip(detector(images), wanted, strict=True):
            np.testing.assert_allclose(found.boxes, expected.boxes, atol=1e-3)
            np.testing.assert_allclose(found.scores, expected.scores, atol=1e-5)
            np.testing.assert_array_equal(found.labels, expected.labels)


def test_wrong_pictures_leave_the_engine_usable(small_engine):
    with load(small_engine) as model:
        wanted = model.infer_images([noise(30, 50)])
        for images, message in [
            ([noise(30, 50)] * 9, r"batch_inputs has to be .*1 to 8.*got .*\(9, 3"),
            ([], "takes one picture or more at a time, got 0"),
            ([noise(30, 50).astype("f4")], "a picture must be a uint8 RGB array"),
            ([noise(30, 50)[..., 0]], "a picture must be a uint8 RGB array"),
        ]:
            with pytest.raises(UserError, match=message):
                model.infer_images(images)
        assert_same(model.infer_images([noise(30, 50)]), wanted)


def run_all(works):
    """Run functions in a thread each; the errors that they had."""
    errors = []

    def run(work):
        try:
            work()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(work,), daemon=True) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(6 * LATE)
    assert not any(thread.is_alive() for thread in threads)
    return errors


@pytest.mark.parametrize("threads", [2, 4])
@pytest.mark.parametrize("cuda_graph", [True, False])
def test_threads_get_their_own_results(small_engine, threads, cuda_graph):
    """Pictures of mixed sizes, batches of mixed sizes, and arrays in between."""
    with load(small_engine, cuda_graph=cuda_graph) as model:
        sets = [pictures(1 + i % 3, seed=10 * i) for i in range(12)]
        wanted = [model.infer_images(images) for images in sets]

        def work(seed):
            for index in np.random.default_rng(seed).integers(0, len(sets), 100):
                if index % 4 == 3:
                    batch = prepare_batch(sets[index], model.spec)
                    found = model.infer(batch.batch_inputs, batch.img_masks)
                else:
                    found = model.infer_images(sets[index])
                assert_same(found, wanted[index])

        assert run_all([lambda seed=seed: work(seed) for seed in range(threads)]) == []


def test_closing_while_threads_run(small_engine):
    with load(small_engine) as model:
        model.infer_images([noise(300, 500)])
    before = used_memory()
    for _ in range(3):
        model = load(small_engine)
        image = noise(300, 500)
        wanted = model.infer_images([image])
        refused = []

        def work(model=model, image=image, wanted=wanted, refused=refused):
            while True:
                try:
                    assert_same(model.infer_images([image]), wanted)
                except RuntimeError as error:
                    refused.append(str(error))
                    return

        def close(model=model):
            time.sleep(0.2)
            model.close()

        assert run_all([work] * 4 + [close]) == []
        assert refused == ["the engine is closed"] * 4
    assert used_memory() <= before + 4 * MIB


def test_memory_grows_with_the_pictures_and_is_given_back(small_engine):
    with load(small_engine) as model:
        model.infer_images([noise(10, 10)])
    before = used_memory()
    with load(small_engine) as model:
        small = used_memory()
        model.infer_images([noise(4000, 4000)])
        assert used_memory() > small + 40 * MIB
        large = used_memory()
        for size in (10, 3999, 4000):
            model.infer_images([noise(size, size)])
        assert used_memory() <= large + MIB
    assert used_memory() <= before + 4 * MIB


def test_a_picture_without_room_leaves_the_engine_usable(small_engine, monkeypatch):
    from runtime.cuda import OutOfMemoryError, cudart

    with load(small_engine) as model:
        wanted = model.infer_images([noise(30, 50)])
        used = used_memory()
        out_of_memory = cudart.cudaError_t.cudaErrorMemoryAllocation
        with monkeypatch.context() as patch:
            patch.setattr(cudart, "cudaHostAlloc", lambda *_: (out_of_memory, None))
            with pytest.raises(OutOfMemoryError, match="end other programs"):
                model.infer_images([noise(4000, 4000)])
        assert used_memory() <= used
        assert_same(model.infer_images([noise(30, 50)]), wanted)


def test_without_nvrtc_the_cpu_prepares(small_engine, monkeypatch, capsys):
    import runtime.preprocess_gpu
    from runtime.nvrtc import NvrtcError

    images = pictures(2)
    with load(small_engine) as model:
        wanted = model.infer_images(images)

    def fail(*_):
        raise NvrtcError("of this test")

    monkeypatch.setattr(runtime.preprocess_gpu, "load_kernel", fail)
    with load(small_engine) as model:
        assert not model.preprocesses_on_gpu
        assert_same(model.infer_images(images), wanted)
    warning = "warning: pictures are preprocessed on the CPU: of this test"
    assert warning in capsys.readouterr().err.splitlines()


SPIN = """extern "C" __global__ void spin(int const volatile* go) {
    while (!*go) {
    }
}"""


def test_pictures_are_copied_while_the_kernels_of_others_run(small_engine):
    """A kernel that never ends until it is told to keeps the engine's stream busy."""
    from cuda.bindings import driver

    from runtime.cuda import PinnedMemory, current_gpu
    from runtime.nvrtc import compile_cubin

    _, module = driver.cuModuleLoadData(
        compile_cubin(SPIN, "spin.cu", current_gpu().compute_capability)
    )
    _, spin = driver.cuModuleGetFunction(module, b"spin")
    images = [noise(300, 500, seed=seed) for seed in range(2)]
    found = {}
    with load(small_engine) as model, PinnedMemory(4) as go:
        wanted = [model.infer_images([image]) for image in images]  # captures the graph too
        model.infer_images([np.zeros_like(images[0])])  # nothing of them is left on the GPU
        flag = go.array((1,), np.int32)
        flag[0] = 0
        stream = int(model.engine.stream)
        arguments = (ctypes.c_void_p * 1)(go.address)
        pointers = (ctypes.c_void_p * 1)(ctypes.addressof(arguments))
        launch = (spin, 1, 1, 1, 1, 1, 1, 0, stream, ctypes.addressof(pointers), 0)
        assert driver.cuLaunchKernel(*launch)[0] == driver.CUresult.CUDA_SUCCESS
        works = [lambda i=i: found.update({i: model.infer_images([images[i]])}) for i in range(2)]
        runner = threading.Thread(target=lambda: found.update(errors=run_all(works)))
        runner.start()
        try:
            wait_until_staged(model.engine, images)
            assert found == {}
        finally:
            flag[0] = 1
        runner.join(LATE)
    assert found.pop("errors") == []
    for i in range(2):
        assert_same(found[i], wanted[i])


def wait_until_staged(engine, images):
    """Until every picture is in one of the slots on the GPU."""
    from runtime.cuda import PinnedMemory, check, copy_to_host, cudart, new_stream

    last = time.monotonic() + LATE
    missing = [image.tobytes() for image in images]
    with PinnedMemory(images[0].nbytes) as host, ExitStack() as stack:
        stream = new_stream(stack)
        while missing:
            assert time.monotonic() < last, f"{len(missing)} pictures were not copied"
            for slot in engine._slots._slots:
                address = slot._staging.device.address
                copy_to_host(host.address, address, images[0].nbytes, stream)
                check(cudart.cudaStreamSynchronize(stream))
                copied = host.array((images[0].nbytes,), np.uint8).tobytes()
                missing = [content for content in missing if content != copied]
