"""Engines that cannot be run: one line each, told without a GPU."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from runtime.compatibility import Recipe
from runtime.cuda import CudaError, check, cudart, no_gpu_reason
from runtime.engine import describe_shortage
from runtime.errors import UserError
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
