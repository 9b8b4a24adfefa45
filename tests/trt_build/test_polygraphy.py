"""``trt_build polygraphy``: Polygraphy's own tools, with our plugin where something can run it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from plugin import OP_TYPES, library_path
from runtime.errors import UserError
from tests.processes import run_python
from tests.trt_build.tiny_models import save_conv
from trt_build.cuda_runtime import show_cuda_runtime

COMMAND = [sys.executable, "-m", "trt_build", "polygraphy"]


def run(*arguments, command=COMMAND):
    return subprocess.run(
        [*command, *map(str, arguments)], capture_output=True, text=True, timeout=300, check=False
    )


def test_inspect(onnx):
    done = run("inspect", "model", onnx, "--show", "layers")
    assert done.returncode == 0, done.stderr
    assert "batch_inputs [dtype=float32, shape=(1, 3, 16, 16)]" in done.stdout
    assert "Op: Conv" in done.stdout


def test_run(tmp_path):
    model = save_conv(tmp_path / "m.ref.onnx", precision="fp32")
    done = run("run", model, "--onnxrt", "--save-outputs", tmp_path / "outputs.json")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "PASSED | Runtime: " in done.stdout
    assert f"Command: polygraphy run {model} --onnxrt" in done.stdout
    assert (tmp_path / "outputs.json").is_file()


def test_a_failure_is_passed_on(tmp_path):
    one, other = (save_conv(tmp_path / f"{i}.onnx", precision="fp32", seed=i) for i in range(2))
    saved = tmp_path / "outputs.json"
    assert run("run", one, "--onnxrt", "--save-outputs", saved).returncode == 0
    done = run("run", other, "--onnxrt", "--load-outputs", saved)
    assert done.returncode == 1
    assert "FAILED" in done.stdout + done.stderr


def test_its_tools_explain_themselves():
    done = run("run", "--help")
    assert done.returncode == 0
    assert done.stdout.startswith("usage: polygraphy run")


def test_the_plain_line_imports_tensorrt_before_it_opens_the_plugin(tmp_path):
    """What our --help promises, seen with TensorRT-RTX, which builds here."""
    model = save_conv(tmp_path / "m.onnx", precision="fp32")
    code = """
        import ctypes, os, sys

        class Library(ctypes.CDLL):
            def __init__(self, name, *arguments, **options):
                if str(name) == "our.so":
                    print("tensorrt_rtx" in sys.modules, flush=True)
                    os._exit(0)
                super().__init__(name, *arguments, **options)

        ctypes.CDLL = Library
        from polygraphy.tools import main
        main(sys.argv[1:])
    """
    environment = {**os.environ, "POLYGRAPHY_USE_TENSORRT_RTX": "1"}
    arguments = ("run", model, "--trt", "--strongly-typed")
    for option, first in (((), "False"), (("--profiling-verbosity", "detailed"), "True")):
        done = run_python(code, *arguments, *option, "--plugins", "our.so", env=environment)
        assert done.stdout.splitlines()[-1] == first, done.stderr


@pytest.fixture
def plugin_onnx(exported):
    return exported("co_dino_r50_small", height=128, width=192, batch=2).plugin


@pytest.mark.gpu
def test_our_command_knows_the_plugin(plugin_onnx):
    done = run("run", plugin_onnx, "--trt", "--strongly-typed")
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]


@pytest.mark.gpu
def test_the_plain_line_knows_the_plugin(plugin_onnx):
    trt = pytest.importorskip("tensorrt")
    try:
        library = library_path()
    except UserError as error:
        pytest.skip(str(error))
    # Opened as Polygraphy does it, in a process that has TensorRT.
    code = (
        "import ctypes, sys, tensorrt as trt; ctypes.CDLL(sys.argv[1]); "
        f"found = [trt.get_plugin_registry().get_creator(name, '1', '') for name in {OP_TYPES}]; "
        "print(None not in found)"
    )
    if run(code, library, command=[sys.executable, "-c"]).stdout.strip() != "True":
        pytest.skip(
            f"{library} was compiled for another major version than TensorRT {trt.__version__}: "
            "TENSORRT_INCLUDE_DIR=…/include python -m plugin build, with the headers of this one"
        )
    plain = [
        sys.executable,
        "-c",
        "import sys; from polygraphy.tools import main; sys.exit(main())",
    ]
    arguments = ("--trt", "--strongly-typed", "--profiling-verbosity", "detailed")
    done = run("run", plugin_onnx, *arguments, "--plugins", library, command=plain)
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]


def test_the_folder_of_the_cuda_wheel_is_added_once(tmp_path, monkeypatch):
    library = tmp_path / "nvidia" / "cu13" / "lib" / "libcudart.so.13"
    library.parent.mkdir(parents=True)
    library.touch()
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    monkeypatch.delitem(sys.modules, "nvidia", raising=False)
    monkeypatch.setenv("LD_LIBRARY_PATH", "/elsewhere")
    for _ in range(2):
        show_cuda_runtime()
        assert os.environ["LD_LIBRARY_PATH"] == f"/elsewhere:{library.parent}"
