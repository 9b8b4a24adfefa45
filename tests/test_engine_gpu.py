"""Real TensorRT engines with the plugin, against the PyTorch model. Needs a GPU."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

from tests.detections import (
    Outputs,
    assert_close,
    golden_inputs,
    least_agreement,
    run_model,
)
from trt_build.agreement import agreement

pytestmark = pytest.mark.gpu

CASES = {
    "swin_tiny_a": {"preset": "co_dino_swin_tiny", "height": 160, "width": 224},
    "swin_tiny_b_masked": {"preset": "co_dino_swin_tiny", "height": 160, "width": 224},
    "r50_small_a_masked": {"preset": "co_dino_r50_small", "height": 128, "width": 192},
}


@pytest.fixture(scope="module")
def engine_of(exported, timing_cache):
    """``engine_of(case, precision)``: builds with the plugin inside; (export, engine)."""
    made = {}

    def build(case: str, precision: str, batch: int | str = 1):
        key = (*CASES[case].values(), precision, batch)
        if key not in made:
            stable = precision != "fp32"
            files = exported(**CASES[case], precision=precision, stable=stable, batch=batch)
            engine = files.plugin.with_suffix(".engine")
            command = [sys.executable, "-m", "trt_build", files.plugin, "-o", engine]
            command += ["--backend", "tensorrt", "--timing-cache", timing_cache]
            subprocess.run(command, check=True)
            made[key] = files, engine
        return made[key]

    return build


def run_engine(engine, inputs, **options) -> Outputs:
    from runtime.tensorrt_backend import TensorRTModel

    model = TensorRTModel(engine, **options)
    try:
        return Outputs(*model.infer(inputs["batch_inputs"], inputs["img_masks"]))
    finally:
        model.close()


@pytest.mark.parametrize("case", CASES)
def test_fp32(engine_of, case):
    files, engine = engine_of(case, "fp32")
    inputs = golden_inputs(case)
    wanted = run_model(CASES[case]["preset"], files.weights, inputs)
    assert_close(run_engine(engine, inputs), wanted, 1e-3)


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
@pytest.mark.parametrize("case", CASES)
def test_half(engine_of, case, precision):
    files, engine = engine_of(case, precision)
    inputs = golden_inputs(case)
    wanted = run_model(CASES[case]["preset"], files.weights, inputs)
    share = agreement(run_engine(engine, inputs), wanted)
    least = least_agreement(wanted, CASES[case]["preset"], files.weights, inputs, precision)
    print(f"{case} {precision}: {share:.4f} of the detections agree, {least:.4f} have to")
    assert share >= least


def test_precision_is_read_back_from_the_engine(engine_of):
    _, engine = engine_of("swin_tiny_a", "fp16")
    layers = json.loads(engine.with_name(engine.name + ".json").read_text())["layers"]
    assert layers["source"] == "engine inspector"
    assert layers["output_types"]["Half"] > 10


def test_cuda_graph_gives_the_same_bits(engine_of):
    from runtime.tensorrt_backend import TensorRTModel

    _, engine = engine_of("swin_tiny_a", "fp16")
    inputs = golden_inputs("swin_tiny_b_masked")
    plain = run_engine(engine, inputs, cuda_graph=False)
    model = TensorRTModel(engine)
    first, replayed = (model.infer(inputs["batch_inputs"], inputs["img_masks"]) for _ in range(2))
    model.close()
    for outputs in (first, replayed):
        for found, wanted in zip(outputs, plain, strict=True):
            np.testing.assert_array_equal(found, wanted)


def test_dynamic_batch(engine_of):
    files, engine = engine_of("swin_tiny_a", "fp32", "dynamic")
    cases = ["swin_tiny_a", "swin_tiny_b_masked", "swin_tiny_a"]
    inputs = golden_inputs(*cases)
    wanted = run_model("co_dino_swin_tiny", files.weights, inputs)
    assert_close(run_engine(engine, inputs), wanted, 1e-3)


def test_detector_runs_an_engine(engine_of):
    from runtime import Detector

    files, engine = engine_of("swin_tiny_a", "fp32")
    rng = np.random.default_rng(0)
    image = rng.integers(0, 255, (90, 200, 3), np.uint8)
    with Detector(engine, nms="none") as gpu, Detector(files.reference, nms="none") as cpu:
        found, wanted = gpu(image), cpu(image)
    np.testing.assert_allclose(found.scores, wanted.scores, atol=1e-3)


def test_two_engines_in_one_process_that_never_loaded_the_plugin(engine_of):
    engines = [str(engine_of("swin_tiny_a", precision)[1]) for precision in ("fp32", "fp16")]
    code = """
import sys
from runtime.backend import open_model
models = [open_model(path) for path in sys.argv[1:]]
assert "plugin" not in sys.modules
for model in models:
    model.close()
"""
    subprocess.run([sys.executable, "-c", code, *engines], check=True)
