"""A real engine under bad input and long use. Needs a GPU."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import numpy as np
import pytest

from runtime.errors import UserError
from runtime.manifest import manifest_path
from tests.processes import run_python
from tests.runtime.fake_engine import save_engine

pytestmark = [pytest.mark.gpu, pytest.mark.alone]

ROOT = Path(__file__).parents[2]
MIB = 1 << 20


def load(engine, **options):
    from runtime.tensorrt_backend import TensorRTModel

    return TensorRTModel(engine, **options)


def noise(batch=1, seed=0):
    rng = np.random.default_rng(seed)
    pixels = rng.standard_normal((batch, 3, 128, 192), np.float32)
    return pixels, np.zeros((batch, 128, 192), np.float32)


def assert_same(found, wanted):
    for array, other in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(array, other)


def used_memory():
    """Bytes in use on the GPU; nobody else may use it meanwhile."""
    from runtime.cuda import memory_info

    gc.collect()
    free, total = memory_info()
    return total - free


def resident_memory():
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGESIZE")


def altered(engine, folder, content=None, **recipe):
    """A copy with other content, or another recipe, whose manifest claims that it is intact."""
    manifest = json.loads(manifest_path(engine).read_text())
    manifest["recipe"] |= recipe
    content = engine.read_bytes() if content is None else content
    return save_engine(folder / "altered.engine", manifest, content)


def assert_refused(engine, *parts):
    """In a process of its own, which must not abort: one line, exit code 2."""
    done = subprocess.run(
        [sys.executable, "-m", "runtime", "bench", engine, "--iterations", "1"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        cwd=ROOT,
    )
    assert done.returncode == 2, done.stderr
    # TensorRT may print warnings before it.
    *_, last = done.stderr.splitlines()
    assert last.startswith("python -m runtime: error: ")
    assert "Traceback" not in done.stderr
    for part in parts:
        assert part in last


@pytest.mark.parametrize("kept", [0.0, 0.001, 0.5, 0.99])
def test_truncated_engine(small_engine, tmp_path, kept):
    whole = small_engine.read_bytes()
    engine = altered(small_engine, tmp_path, whole[: int(kept * len(whole))])
    assert_refused(engine, f"cannot load {engine}", "build it again")


def test_foreign_bytes(small_engine, tmp_path):
    for content in (np.random.default_rng(0).bytes(MIB), b"GIF89a", b"\0" * MIB):
        engine = altered(small_engine, tmp_path, content)
        assert_refused(engine, f"cannot load {engine}")


def test_onnx_with_the_suffix_of_an_engine(small_engine, tmp_path):
    onnx = small_engine.with_suffix(".onnx").read_bytes()
    assert_refused(altered(small_engine, tmp_path, onnx), "cannot load")


def test_engine_of_another_version(small_engine, tmp_path):
    engine = altered(small_engine, tmp_path, backend_version="10.99.0")
    assert_refused(engine, "was built by TensorRT 10.99.0 and", "is installed; build it again")


def test_engine_of_another_gpu(small_engine, tmp_path):
    engine = altered(small_engine, tmp_path)
    manifest = json.loads(manifest_path(engine).read_text())
    manifest["build"]["machine"]["gpu"]["compute_capability"] = "7.0"
    manifest["recipe"]["gpu"] = "NVIDIA V100"
    manifest_path(engine).write_text(json.dumps(manifest))
    assert_refused(engine, "was built for NVIDIA V100 (compute capability 7.0), and this GPU is")


def test_wrong_inputs_leave_the_engine_usable(small_engine):
    with load(small_engine) as model:
        engine = model.engine
        pixels, masks = noise()
        wanted = model.infer(pixels, masks)
        for feeds, message in [
            (
                {"batch_inputs": pixels},
                "the engine takes batch_inputs, img_masks, got batch_inputs",
            ),
            ({"batch_inputs": pixels.astype("f8"), "img_masks": masks}, "got float64"),
            ({"batch_inputs": pixels[..., :-1], "img_masks": masks}, r"got .*\(1, 3, 128, 191\)"),
            ({"batch_inputs": pixels[0], "img_masks": masks}, r"got .*\(3, 128, 192\)"),
            ({"batch_inputs": pixels[:0], "img_masks": masks[:0]}, r"1 to 8.*got .*\(0, 3"),
            (dict(zip(("batch_inputs", "img_masks"), noise(9), strict=True)), r"got .*\(9, 3"),
            ({"batch_inputs": noise(2)[0], "img_masks": masks}, "differ in their batch"),
        ]:
            with pytest.raises(UserError, match=message):
                engine.infer(feeds)
        assert_same(model.infer(pixels, masks), wanted)


def test_inputs_need_not_be_contiguous(small_engine):
    pixels, masks = noise(2)
    with load(small_engine) as model:
        wanted = model.infer(pixels, masks)
        assert_same(model.infer(np.asfortranarray(pixels), masks), wanted)


def test_close_twice_then_infer(small_engine):
    model = load(small_engine)
    model.infer(*noise())
    model.close()
    model.close()
    with pytest.raises(RuntimeError, match="closed"):
        model.infer(*noise())


def test_closing_gives_all_memory_back(small_engine):
    for _ in range(3):
        with load(small_engine) as model:
            model.infer(*noise())
    before = used_memory()
    with load(small_engine):
        assert used_memory() > before + MIB
    for _ in range(20):
        with load(small_engine) as model:
            model.infer(*noise(3))
    assert used_memory() <= before + 4 * MIB


def test_failed_loading_gives_all_memory_back(small_engine, monkeypatch):
    from runtime.cuda import CudaError, DeviceMemory

    load(small_engine).close()
    before = used_memory()
    buffers = []

    def third_fails(nbytes):
        if len(buffers) == 2:
            raise CudaError("of this test")
        buffers.append(DeviceMemory(nbytes))
        return buffers[-1]

    monkeypatch.setattr("runtime.engine.DeviceMemory", third_fails)
    for _ in range(5):
        buffers.clear()
        with pytest.raises(CudaError, match="of this test"):
            load(small_engine)
    assert used_memory() <= before + 4 * MIB


def test_staging_without_host_memory_frees_its_device_memory(monkeypatch):
    from runtime.cuda import OutOfMemoryError, cudart
    from runtime.slots import Staging

    Staging(MIB).close()
    before = used_memory()
    out_of_memory = cudart.cudaError_t.cudaErrorMemoryAllocation
    monkeypatch.setattr(cudart, "cudaHostAlloc", lambda *_: (out_of_memory, None))
    with pytest.raises(OutOfMemoryError):
        Staging(256 * MIB)
    assert used_memory() <= before + 4 * MIB


_PRELUDE = """
    import sys
    from pathlib import Path
    import numpy as np
    from cuda.bindings import driver
    from cuda.bindings import runtime as cudart
    from runtime.cuda import CudaError, OutOfMemoryError, check, memory_info
    from runtime.tensorrt_backend import TensorRTModel

    def fill():
        held, size = [], memory_info()[0]
        while size >= 1 << 20:
            error, pointer = cudart.cudaMalloc(size)
            if error == cudart.cudaError_t.cudaSuccess:
                held.append(pointer)
            else:
                size //= 2
        cudart.cudaGetLastError()
        return held

    def free(held):
        for pointer in held:
            check(cudart.cudaFree(pointer))

    KERNEL = b".version 6.3\\n.target sm_75\\n.visible .entry fault() { trap; }\\0"

    def lose_context(stream):
        _, module = driver.cuModuleLoadData(KERNEL)
        _, fault = driver.cuModuleGetFunction(module, b"fault")
        driver.cuLaunchKernel(fault, 1, 1, 1, 1, 1, 1, 0, driver.CUstream(stream), 0, 0)

    engine = Path(sys.argv[1])
    inputs = np.ones((1, 3, 128, 192), np.float32), np.zeros((1, 128, 192), np.float32)

    def answers(model):
        return all(map(np.array_equal, model.infer(*inputs), wanted))
"""


def run_told(code, engine):
    """Run code after ``_PRELUDE`` in a process of its own; the lines it prints."""
    done = run_python(textwrap.dedent(_PRELUDE) + textwrap.dedent(code), engine, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()


def test_no_room_on_the_gpu(small_engine):
    code = """
        from runtime.backend import open_model
        from runtime.errors import UserError

        open_model(engine).close()  # what CUDA itself needs is there from now on
        held = fill()
        try:
            open_model(engine)
        except UserError as error:
            print(error)
        free(held)
        open_model(engine).close()
        print("loaded")
    """
    message, loaded = run_told(code, small_engine)
    assert f"the GPU has no room for {small_engine}: it needs over" in message
    assert "weights" in message
    assert loaded == "loaded"


def test_service_goes_on_while_another_engine_finds_no_room(small_engine):
    code = """
        with TensorRTModel(engine) as first:
            wanted = first.infer(*inputs)
            held = fill()
            for _ in range(3):
                try:
                    TensorRTModel(engine)
                except OutOfMemoryError as error:
                    print(error)
                print(answers(first))
            free(held)
            with TensorRTModel(engine) as second:
                print(answers(second), answers(first))
    """
    *told, last = run_told(code, small_engine)
    assert [line for line in told if "the GPU has no room" not in line] == ["True"] * 3
    assert sum("needs over" in line and "were free" in line for line in told) == 3
    assert last == "True True"


def test_call_that_finds_no_room_leaves_the_engine_usable(small_engine):
    code = """
        large = np.zeros((8192, 8192, 3), np.uint8)
        with TensorRTModel(engine) as model:
            assert model.preprocesses_on_gpu  # or pictures are not copied as they are
            wanted = model.infer(*inputs)
            spare = check(cudart.cudaMalloc(16 << 20))
            held = fill()
            free([spare])  # small pictures need memory again after the large one
            for _ in range(3):
                try:
                    model.infer_images([large])
                except OutOfMemoryError as error:
                    print(error)
                print(answers(model))
            free(held)
            print(len(model.infer_images([large]).boxes))
    """
    *told, last = run_told(code, small_engine)
    assert told[1::2] == ["True"] * 3
    for line in told[::2]:
        assert "no room for 201.3 MB of memory on the GPU" in line
        assert "are free" in line
    assert last == "1"


def test_lost_context_is_told_and_closing_still_works(small_engine):
    code = """
        with TensorRTModel(engine) as other, TensorRTModel(engine) as model:
            wanted = other.infer(*inputs)
            assert answers(model)
            lose_context(int(model.engine.stream))

            def told(work):
                try:
                    work()
                except CudaError as error:
                    print(type(error).__name__, error)

            told(lambda: model.infer(*inputs))
            told(lambda: model.infer(*inputs))
            told(lambda: other.infer(*inputs))
            told(lambda: TensorRTModel(engine))
        print("closed")
    """
    *told, closed = run_told(code, small_engine)
    assert len(told) == 4
    for line in told:
        assert line.startswith("ContextLostError ")
        assert line.count("the CUDA context of this process is lost") == 1
        assert "start the program again" in line
    assert closed == "closed"
    with load(small_engine) as model:  # another process: it has a context of its own
        model.infer(*noise())


def test_lost_context_closes_an_engine_that_did_not_notice(small_engine):
    code = """
        with TensorRTModel(engine) as model:
            model.infer(*inputs)
            lose_context(0)
        print("closed")
    """
    assert run_told(code, small_engine) == ["closed"]


def test_batches_in_any_order(small_engine):
    with load(small_engine, cuda_graph=False) as plain:
        wanted = {batch: plain.infer(*noise(batch)) for batch in (1, 3, 8)}
    with load(small_engine) as model:
        for batch in (1, 1, 8, 8, 3, 1, 3, 3, 8, 1):
            assert_same(model.infer(*noise(batch)), wanted[batch])
        before = used_memory()
        for _ in range(50):
            for batch in (1, 3):
                model.infer(*noise(batch))
        assert used_memory() <= before + 4 * MIB


def test_two_engines_alternately(small_engine):
    with load(small_engine) as alone:
        wanted = [alone.infer(*noise(seed=seed)) for seed in range(2)]
    with load(small_engine) as first, load(small_engine) as second:
        for _ in range(5):
            assert_same(first.infer(*noise(seed=0)), wanted[0])
            assert_same(second.infer(*noise(seed=1)), wanted[1])


def test_threads_take_turns(small_engine):
    with load(small_engine) as model:
        wanted = [model.infer(*noise(batch, seed=batch)) for batch in range(1, 5)]
        failures = []

        def work(batch):
            try:
                for _ in range(20):
                    assert_same(model.infer(*noise(batch, seed=batch)), wanted[batch - 1])
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=work, args=(batch,)) for batch in range(1, 5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []


def test_ten_thousand_inferences(small_engine):
    inputs = noise()
    with load(small_engine) as model:
        for _ in range(500):
            wanted = model.infer(*inputs)
        before, resident = used_memory(), resident_memory()
        for _ in range(10_000):
            outputs = model.infer(*inputs)
        assert_same(outputs, wanted)
        assert used_memory() <= before
        assert resident_memory() <= resident + 8 * MIB
