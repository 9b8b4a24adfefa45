"""Engines that cannot be run: one line each, told without a GPU."""

import contextlib
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from runtime.closing import Closing
from runtime.compatibility import Recipe
from runtime.cuda import (
    _LOSING,
    ContextLostError,
    CudaError,
    DeviceMemory,
    OutOfMemoryError,
    PinnedMemory,
    check,
    cudart,
    no_gpu_reason,
    require_gpu,
)
from runtime.engine import Engine
from runtime.engine_errors import describe_shortage, failure
from runtime.errors import UserError
from runtime.slots import SlotPool
from tests.processes import run_python
from tests.runtime.fake_engine import installed_library, manifest_of, save_engine

ROOT = Path(__file__).parents[2]
ENGINE = Path("m.engine")


def bench(*arguments, **environment):
    return subprocess.run(
        [sys.executable, "-m", "runtime", "bench", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=ROOT,
        env=os.environ | environment,
    )


def assert_one_line(done, *parts):
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    assert done.stderr.startswith("python -m runtime: error: ")
    assert done.stderr.count("\n") == 1
    for part in parts:
        assert part in done.stderr


def recipe(**changes):
    return Recipe.from_manifest(manifest_of(**changes), ENGINE)


@pytest.mark.parametrize("same", ["10.6.0", "10.6.0.post1", "10.6.0.26"])
def test_same_version_passes(same):
    recipe().check_version(ENGINE, same)
    recipe(backend_version=same).check_version(ENGINE, "10.6.0")


@pytest.mark.parametrize("installed", ["10.6.1", "10.15.1.29", "11.2.1"])
def test_other_version(installed):
    message = f"^m.engine was built by TensorRT 10.6.0 and {installed} is installed; build it again"
    with pytest.raises(UserError, match=message):
        recipe().check_version(ENGINE, installed)


@pytest.mark.parametrize("installed", ["8.6.1", "10.5.0"])
def test_too_old_version(installed):
    # Also with an engine of that very version: it was never tried.
    message = rf'found TensorRT {installed}, and 10\.6 or newer .* pip install "tensorrt>='
    with pytest.raises(UserError, match=message):
        recipe(backend_version=installed).check_version(ENGINE, installed)


def test_version_compatible_engine():
    compatible = recipe(options={"compute_capabilities": [], "version_compatible": True})
    assert compatible.version_compatible
    for later in ("10.6.0", "10.6.1", "10.15.1"):
        compatible.check_version(ENGINE, later)
    newer = recipe(
        backend_version="10.9.0",
        options={"compute_capabilities": [], "version_compatible": True},
    )
    for engine, installed in ((compatible, "11.0.0"), (newer, "10.8.0")):
        with pytest.raises(UserError, match="build it again"):
            engine.check_version(ENGINE, installed)


def test_gpu_of_another_compute_capability():
    recipe().check_gpu(ENGINE, "NVIDIA H100", "9.0")
    message = (
        r"m\.engine was built for NVIDIA H200 \(compute capability 9\.0\), and this GPU is "
        r"NVIDIA L4 \(8\.9\); build it again"
    )
    with pytest.raises(UserError, match=message):
        recipe().check_gpu(ENGINE, "NVIDIA L4", "8.9")


def test_engine_for_any_gpu_from_ampere_on():
    engine = recipe(
        options={"compute_capabilities": [], "hardware_compatibility": "ampere-plus"},
    )
    for capability in ("8.0", "8.9", "12.0"):
        engine.check_gpu(ENGINE, "a GPU", capability)
    with pytest.raises(UserError, match=r"NVIDIA T4 \(7\.5\)"):
        engine.check_gpu(ENGINE, "NVIDIA T4", "7.5")


def test_engine_built_without_a_gpu():
    engine = recipe(gpu=None, options={"compute_capabilities": ["8.9", "12.0"]})
    engine.check_gpu(ENGINE, "a GPU", "12.0")
    with pytest.raises(UserError, match=r"built for compute capability 8\.9 and 12\.0, and .*9\.0"):
        engine.check_gpu(ENGINE, "a GPU", "9.0")


def test_unknown_gpu_is_left_to_tensorrt():
    manifest = manifest_of()
    manifest["build"]["machine"]["gpu"] = None
    Recipe.from_manifest(manifest, ENGINE).check_gpu(ENGINE, "a GPU", "9.0")


@pytest.mark.parametrize(
    ("change", "missing"),
    [
        ({"recipe": {}}, "options"),
        ({"recipe": None}, "NoneType"),
        ({"build": {}}, "machine"),
        ({"recipe": manifest_of(backend="onnx")["recipe"]}, "onnx"),
    ],
)
def test_incomplete_manifest(tmp_path, change, missing):
    engine = save_engine(tmp_path / "m.engine", manifest_of() | change)
    assert_one_line(bench(engine), f"the manifest of {engine} is incomplete", missing)


def test_no_driver():
    assert "there is no NVIDIA driver (no); install one" in no_gpu_reason("no", 0, 13030)


@pytest.mark.parametrize(("driver", "spoken"), [(12040, "12.4"), (12090, "12.9"), (11080, "11.8")])
def test_driver_too_old(driver, spoken):
    message = no_gpu_reason("cudaErrorInsufficientDriver", driver, 13050)
    assert f"made for CUDA {spoken}, this program needs one for 13.0 or newer" in message
    assert "update the driver" in message


def test_gpu_that_is_hidden():
    # A driver of any 13.x does for any other 13.x, so the versions are not the reason.
    for driver in (13000, 13050, 14000):
        message = no_gpu_reason("cudaErrorNoDevice", driver, 13030)
        assert "cudaErrorNoDevice" in message
        assert "CUDA_VISIBLE_DEVICES" in message


def test_hidden_gpu_from_the_command_line(tmp_path):
    backend, version = installed_library()
    manifest = manifest_of(backend=backend, backend_version=version)
    engine = save_engine(tmp_path / "m.engine", manifest)
    done = bench(engine, CUDA_VISIBLE_DEVICES="")
    assert_one_line(done, "an engine runs on an NVIDIA GPU", ".ref.onnx")


def test_other_version_from_the_command_line(tmp_path):
    backend, version = installed_library()
    manifest = manifest_of(backend=backend, backend_version="1.2.3")
    engine = save_engine(tmp_path / "m.engine", manifest)
    assert_one_line(bench(engine), f"{engine} was built by", "1.2.3", f"{version} is installed")


@pytest.mark.parametrize(
    ("blocked", "message"),
    [
        ("cuda", "engines need cuda-python"),
        (
            "tensorrt",
            "cannot be imported here (import of tensorrt halted; None in sys.modules); pip",
        ),
    ],
)
def test_missing_package(tmp_path, blocked, message):
    engine = save_engine(tmp_path / "m.engine", manifest_of())
    code = f"""
        import sys
        sys.modules[{blocked!r}] = None
        from runtime.__main__ import main
        sys.exit(main(["bench", sys.argv[1]]))
    """
    assert_one_line(run_python(code, engine, cwd=ROOT), message, str(engine))


def test_out_of_memory_is_the_users_to_change():
    with pytest.raises(UserError, match=r"cudaErrorMemoryAllocation: out of memory; end other"):
        check((cudart.cudaError_t.cudaErrorMemoryAllocation, None))
    with pytest.raises(CudaError) as error:
        check((cudart.cudaError_t.cudaErrorIllegalAddress,))
    assert not isinstance(error.value, UserError)


def test_shortage_says_what_was_needed():
    needed = {"weights": 500_000_000, "activations": 1_700_000_000}
    message = describe_shortage(ENGINE, needed, 1_000_000_000, 8_000_000_000)
    assert "needs over 2.20 GB (weights 0.50 GB, activations 1.70 GB)" in message
    assert "1.00 GB of 8.00 GB were free" in message


ERROR = cudart.cudaError_t
SUCCESS = ERROR.cudaSuccess
OUT_OF_MEMORY = ERROR.cudaErrorMemoryAllocation
FAULT = ERROR.cudaErrorIllegalAddress


@pytest.fixture
def calls(monkeypatch):
    """What calls of CUDA return."""

    def answer(**results):
        for name, result in results.items():
            monkeypatch.setattr(cudart, name, lambda *_, result=result: result)

    return answer


@pytest.mark.parametrize(
    ("memory", "words"),
    [(DeviceMemory, "memory on the GPU"), (PinnedMemory, "page-locked memory")],
)
def test_no_memory_says_how_much_was_asked_for_and_is_free(calls, memory, words):
    calls(cudaMemGetInfo=(SUCCESS, 30_000_000, 8_000_000_000))
    calls(cudaMalloc=(OUT_OF_MEMORY, None), cudaHostAlloc=(OUT_OF_MEMORY, None))
    message = rf"room for 201.3 MB of {words}, .* 30 MB of 8,000 MB are free .* end other programs"
    with pytest.raises(OutOfMemoryError, match=message):
        memory(201_326_592)
    calls(cudaMemGetInfo=(OUT_OF_MEMORY, None, None))
    with pytest.raises(OutOfMemoryError, match="how much is free is not known"):
        memory(201_326_592)


def test_tensorrt_without_memory_says_how_much_is_free(calls):
    calls(cudaMemGetInfo=(SUCCESS, 30_000_000, 8_000_000_000))
    error = failure("no context", CudaError, ["Error Code 2: OutOfMemory (Requested size was 9)"])
    assert str(error).startswith("no context: the GPU's memory is full, 30 MB of 8,000 MB are free")
    assert "Requested size was 9" in str(error)


def test_names_of_errors_that_lose_the_context():
    assert ERROR.__members__.keys() >= _LOSING


def test_error_that_loses_the_context(calls):
    with pytest.raises(
        ContextLostError, match=r"IllegalAddress.* lost, .* start the program again"
    ):
        check((FAULT,))
    # Opening another engine in that process: not that there is no GPU.
    calls(cudaGetDeviceCount=(SUCCESS, 1), cudaMemGetInfo=(FAULT, None, None))
    with pytest.raises(ContextLostError, match="start the program again"):
        require_gpu()


class Held(Closing):
    """Something of an engine on a GPU whose context is lost."""

    def __init__(self, log):
        self.log = log

    def close(self):
        self.log.append("closed")
        check((FAULT,))


@pytest.fixture
def engine():
    """One that has nothing but what is asked after an error."""
    engine = Engine.__new__(Engine)
    engine._lost, engine._lock = False, threading.Lock()
    engine._slots, engine._closers = SlotPool([]), contextlib.ExitStack()
    return engine


def call(engine, error):
    with engine._settled():
        raise error


def test_engine_after_an_error_that_loses_the_context(engine, calls):
    calls(cudaGetLastError=(FAULT,), cudaDeviceSynchronize=(FAULT,))
    with pytest.raises(ContextLostError, match=r"^TensorRT could not; the CUDA context"):
        call(engine, CudaError("TensorRT could not"))
    # Refused without asking the GPU; said once.
    with pytest.raises(ContextLostError, match=r"^the CUDA context .* start the program again$"):
        call(engine, AssertionError("it came in"))


def test_engine_after_any_other_error(engine, calls):
    calls(cudaGetLastError=(OUT_OF_MEMORY,), cudaDeviceSynchronize=(SUCCESS,))
    for _ in range(2):
        with pytest.raises(OutOfMemoryError, match=r"^no room$"):
            call(engine, OutOfMemoryError("no room"))
    with engine._settled():
        pass


@pytest.mark.parametrize("noticed", [True, False])
def test_closing_without_a_context(engine, noticed):
    engine._lost = noticed
    log = []
    for _ in range(3):
        engine._closers.enter_context(Held(log))
    engine.close()
    engine.close()
    assert log == ["closed"] * 3  # each was tried


def test_closing_tells_of_other_errors(engine):
    engine._closers.callback(check, (ERROR.cudaErrorInvalidValue,))
    with pytest.raises(CudaError, match="cudaErrorInvalidValue"):
        engine.close()
