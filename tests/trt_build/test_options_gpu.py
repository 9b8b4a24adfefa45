"""Options and refusals that only full TensorRT has, on a GPU."""

import json
import os
import subprocess
import sys

import pytest

from runtime.manifest import manifest_path
from runtime.tensorrt_log import make_logger
from tests.synthetic_checkpoint import state_of, write_checkpoint
from tests.trt_build.tiny_models import save_conv
from trt_build.layers import layers_of_plan

pytestmark = pytest.mark.gpu


def build(*arguments, **variables):
    command = [sys.executable, "-m", "trt_build", *map(str, arguments), "--backend", "tensorrt"]
    environment = {**os.environ, **variables}
    return subprocess.run(
        command, capture_output=True, text=True, timeout=600, check=False, env=environment
    )


def manifest_of(engine):
    return json.loads(manifest_path(engine).read_text())


def test_options_are_found_in_the_engine(tmp_path):
    import tensorrt as trt

    onnx, engine = save_conv(tmp_path / "m.onnx"), tmp_path / "m.engine"
    options = "--aux-streams 0 --hardware-compatibility ampere-plus --profiling-verbosity none"
    done = build(onnx, "-o", engine, *options.split())
    assert done.returncode == 0, done.stderr
    loaded = trt.Runtime(make_logger(trt)).deserialize_cuda_engine(engine.read_bytes())
    assert loaded.num_aux_streams == 0
    assert loaded.hardware_compatibility_level == trt.HardwareCompatibilityLevel.AMPERE_PLUS
    assert loaded.profiling_verbosity == trt.ProfilingVerbosity.NONE
    assert manifest_of(engine)["layers"]["source"] == "parsed network"


def test_a_version_compatible_engine_runs_code_only_where_that_is_allowed(tmp_path):
    import tensorrt as trt

    onnx, engine = save_conv(tmp_path / "m.onnx"), tmp_path / "m.engine"
    done = build(onnx, "-o", engine, "--version-compatible")
    if done.returncode:  # NVIDIA ships the lean runtime in a package of its own
        assert "install it (pip install tensorrt-lean, of the same version)" in done.stderr
        assert done.returncode == 2
        return
    plan, logger = engine.read_bytes(), make_logger(trt)
    assert layers_of_plan(trt, logger, plan, host_code_allowed=False) is None
    assert layers_of_plan(trt, logger, plan, host_code_allowed=True) is not None


@pytest.mark.parametrize("visible", ["", "-1", "99"])
def test_an_invisible_gpu_is_refused_before_tensorrt_aborts(tmp_path, visible):
    onnx = save_conv(tmp_path / "m.onnx")
    done = build(onnx, "-o", tmp_path / "m.engine", CUDA_VISIBLE_DEVICES=visible)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("trt_build: error: TensorRT builds on the GPU that runs the eng")
    assert done.stderr.count("\n") == 1


def test_one_command_builds_with_the_plugin(tmp_path):
    weights = write_checkpoint(tmp_path / "w.safetensors", state_of("co_dino_swin_tiny"))
    engine = tmp_path / "out" / "m.engine"
    what = "--preset co_dino_swin_tiny --height 160 --width 224 --precision fp16 --batch 1,2,2"
    done = build("--weights", weights, "-o", engine, *what.split())
    assert done.returncode == 0, done.stderr
    manifest = manifest_of(engine)
    assert manifest["onnx"]["file"] == "m.onnx"
    assert manifest["model"]["role"] == "plugin"
    assert manifest["recipe"]["plugin_sha256"] is not None
    assert manifest["io"][0]["profile"]["max"] == [2, 3, 160, 224]
    assert "Int64 binding" not in done.stderr
