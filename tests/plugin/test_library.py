"""The built library on its own: what it needs, what it shows, which GPUs it has code for."""

import ctypes
import re
import shutil
import subprocess
from pathlib import Path

import pytest

import plugin
from runtime.errors import UserError


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
    monkeypatch.setattr("plugin.library.__file__", str(tmp_path / "library.py"))
    with pytest.raises(UserError, match="python -m plugin build"):
        plugin.library_path()
    with pytest.raises(UserError, match=r"none\.so.*python -m plugin build"):
        plugin.library_path(tmp_path / "none.so")
    shutil.copy(library, tmp_path / "libcodetr_plugin.so")
    assert plugin.library_path() == tmp_path / "libcodetr_plugin.so"
