"""The built library on its own: what it needs, what it shows, which GPUs it has code for."""

import ctypes
import re
import shutil
import subprocess
from pathlib import Path

import pytest

import plugin
from plugin.build import ROOT
from runtime.errors import UserError
from tests.processes import run_python


@pytest.fixture
def library(build_folder):
    return build_folder / "libcodetr_plugin.so"


def lines_of(*command):
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()


def test_needs_no_cuda_torch_or_tensorrt_library(library):
    lines = lines_of("readelf", "--wide", "--dynamic", library)
    needed = {re.search(r"\[(.*)\]", line)[1] for line in lines if "(NEEDED)" in line}
    assert needed
    assert {name.split(".")[0] for name in needed} <= {
        *("libc", "libm", "libdl", "librt", "libpthread", "libgcc_s", "ld-linux-x86-64"),
        "ld-linux-aarch64",
    }
    assert any("NODELETE" in line for line in lines)


def test_exports_the_entry_points_only(library):
    lines = lines_of("readelf", "--wide", "--dyn-syms", library)
    symbols = [line.split() for line in lines if re.match(r" *\d+:", line)]
    defined = {s[7] for s in symbols if len(s) > 7 and s[6] != "UND" and s[4] != "LOCAL"}
    assert defined == {"getCreators", "setLoggerFinder"}


def test_holds_machine_code_and_ptx(library):
    """Of the architectures that conftest.py asked for."""
    disassembler = shutil.which("cuobjdump") or cuobjdump_of_triton()
    if disassembler is None:
        pytest.skip("found no cuobjdump, neither a CUDA toolkit's nor triton's")
    found = " ".join(lines_of(disassembler, "--list-elf", "--list-ptx", library))
    codes = set(re.findall(r"sm_\d+[a-z]?\.\w+", found))
    assert codes == {"sm_80.cubin", "sm_90.cubin", "sm_80.ptx"}


def cuobjdump_of_triton():
    triton = pytest.importorskip("triton")
    path = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
    return path if path.is_file() else None


def test_loads_without_tensorrt(library):
    assert ctypes.CDLL(str(library)).getCreators


def test_what_tensorrt_calls(build_folder, library):
    """Creators, fields, formats and shapes, by plugin_check.cpp."""
    done = subprocess.run(
        [build_folder / "codetr_plugin_check", library], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "")


def test_library_path(library, tmp_path, monkeypatch):
    assert plugin.library_path(library) == library
    monkeypatch.setattr(plugin, "__path__", [str(tmp_path)])
    with pytest.raises(UserError, match="python -m plugin build"):
        plugin.library_path()
    with pytest.raises(UserError, match=r"none\.so.*python -m plugin build"):
        plugin.library_path(tmp_path / "none.so")
    shutil.copy(library, tmp_path / "libcodetr_plugin.so")
    assert plugin.library_path() == tmp_path / "libcodetr_plugin.so"


def test_a_build_without_cmake_says_what_to_do():
    code = "import runpy; runpy.run_module('plugin', run_name='__main__', alter_sys=True)"
    done = run_python(code, "build", cwd=ROOT, env={"PATH": "/nowhere"})
    assert done.returncode == 2
    assert done.stderr == "plugin: error: found no cmake; install it: pip install cmake ninja\n"


@pytest.fixture
def configure(tmp_path):
    """Runs CMake where no tool but these can be found."""
    for tool in ("cmake", "make", "c++"):
        (tmp_path / tool).symlink_to(shutil.which(tool))
    command = ["cmake", "-S", ROOT, "-B", tmp_path / "build", "-G", "Unix Makefiles"]

    def run(switch):
        return subprocess.run(
            [*command, switch],
            env={"PATH": str(tmp_path)},
            capture_output=True,
            text=True,
            check=False,
        )

    return run


@pytest.mark.skipif(Path("/usr/local/cuda/bin/nvcc").exists(), reason="nvcc is found anyway")
def test_configuring_without_cuda_says_how_to_do_without(configure):
    done = configure("-DCODETR_BUILD_PLUGIN=ON")
    assert done.returncode != 0
    assert "found no nvcc" in done.stderr
    assert "CODETR_BUILD_PLUGIN=OFF" in done.stderr


def test_configuring_without_the_plugin_needs_nothing(configure):
    done = configure("-DCODETR_BUILD_PLUGIN=OFF")
    assert done.returncode == 0, done.stderr
