"""The GPU as nvidia-smi tells of it, and what TensorRT does without one."""

import re

import pytest

from runtime.errors import UserError
from trt_build import BuildOptions, build_engine
from trt_build.backend import BACKENDS
from trt_build.machine import describe_gpu


@pytest.fixture
def nvidia_smi(tmp_path, monkeypatch):
    """Put a program of this name first, which runs a line of shell."""

    def install(line):
        program = tmp_path / "nvidia-smi"
        program.write_text(f"#!/bin/sh\n{line}\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path))

    return install


def test_a_gpu(nvidia_smi, monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    nvidia_smi("echo 'NVIDIA H200, 9.0, 580.65.06'")
    gpu, reason = describe_gpu()
    assert gpu is not None
    assert reason is None
    gpu.pop("cuda")
    assert gpu == {"name": "NVIDIA H200", "compute_capability": "9.0", "driver": "580.65.06"}


def test_the_first_visible_gpu_is_asked_for(nvidia_smi, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,1")
    nvidia_smi('echo "$3, 9.0, 580.65.06"')
    gpu, _ = describe_gpu()
    assert gpu is not None
    assert gpu["name"] == "--id=3"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("echo No devices were found", "found no GPU: No devices were found"),
        ("exit 9", "nvidia-smi failed: .*exit status 9"),
        ("", "found no GPU"),
    ],
)
def test_no_gpu(nvidia_smi, line, expected):
    nvidia_smi(line)
    gpu, reason = describe_gpu()
    assert gpu is None
    assert reason is not None
    assert re.search(expected, reason)


def test_tensorrt_is_refused_before_it_aborts(tmp_path, onnx, monkeypatch):
    # TensorRT 10.6 ends the process when a builder is made without a GPU.
    monkeypatch.setenv("PATH", str(tmp_path))
    engine, options = tmp_path / "m.engine", BuildOptions()
    with pytest.raises(UserError, match=r"TensorRT builds on the GPU .* --backend tensorrt-rtx"):
        build_engine(onnx, engine, backend=BACKENDS["tensorrt"], options=options)


def test_tensorrt_builds_for_its_own_gpu_only(tmp_path, onnx):
    options = BuildOptions(compute_capabilities=("8.9",))
    with pytest.raises(UserError, match="leave --compute-capability out"):
        build_engine(onnx, tmp_path / "e", backend=BACKENDS["tensorrt"], options=options)
