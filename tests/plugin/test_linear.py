"""What linear layers say where there is no cuBLASLt, or no GPU."""

import ctypes.util
import os
from importlib.util import find_spec
from pathlib import Path

import pytest

from plugin.build import ROOT
from tests.conftest import has_gpu
from tests.processes import run_python

# PyTorch would load a cuBLASLt, so the struct of linear_problems.py is written out.
PREPARE = """
import ctypes, struct, sys
library, outputs, *others = sys.argv[1:]
for other in others:
    ctypes.CDLL(other)
prepare = ctypes.CDLL(library).codetr_prepare_linear
prepare.restype = ctypes.c_char_p
said = prepare(struct.pack("9P8i", *[0] * 9, 1, 1, 1, 8, 8, int(outputs), 0, 0))
print("" if said is None else said.decode())
"""


@pytest.fixture
def prepare(build_folder):
    """What is said of a product of 8 channels to so many; other libraries are loaded before."""

    def run(outputs, *others):
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "LD_LIBRARY_PATH": ""}
        library = build_folder / "libcodetr_kernel_test.so"
        done = run_python(PREPARE, library, outputs, *others, env=environment)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    return run


@pytest.mark.skipif(ctypes.util.find_library("cublasLt") is not None, reason="cuBLASLt is found")
def test_without_cublaslt(prepare):
    said = prepare(8)
    assert said.startswith("found neither libcublasLt.so.13 nor libcublasLt.so.12 (")
    assert said.endswith(
        "; install nvidia-cublas and name the folder of its libraries in LD_LIBRARY_PATH"
    )


def test_the_cublaslt_of_the_process_is_taken(prepare):
    package = find_spec("nvidia")
    folders = package.submodule_search_locations if package else ()
    paths = [Path(folder, "cu13", "lib", "libcublasLt.so.13") for folder in folders]
    if not any(path.is_file() for path in paths):
        pytest.skip("found no nvidia-cublas")
    cublaslt = next(path for path in paths if path.is_file())
    assert prepare(8, cublaslt) == ("" if has_gpu() else "found no GPU to multiply on")


def test_products_of_other_sizes(prepare):
    assert prepare(4) == "there is no product of such a type and size"
