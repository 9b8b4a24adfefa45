"""Shared by the tests of the runtime: models, a small engine for the GPU, the C++ programs."""

import subprocess
import sys

import pytest

from tests.runtime.cpp_program import build_programs
from tests.runtime.tiny_model import save_tiny_model


@pytest.fixture
def model(tmp_path):
    """A tiny model that takes any batch."""
    return save_tiny_model(tmp_path / "model.ref.onnx")


@pytest.fixture(scope="session")
def programs():
    """See ``build_programs``."""
    return build_programs()


@pytest.fixture(scope="session")
def small_engine(exported, timing_cache):
    """An fp16 engine of TensorRT for 128 x 192 pixels and 1 to 8 pictures; built fast, not best."""
    files = exported(
        "co_dino_r50_small", height=128, width=192, precision="fp16", stable=True, batch="dynamic"
    )
    engine = files.plugin.with_suffix(".engine")
    command = [sys.executable, "-m", "trt_build", files.plugin, "-o", engine]
    command += ["--backend", "tensorrt", "--timing-cache", timing_cache]
    subprocess.run([*command, "--optimization-level", "0"], check=True)
    return engine
