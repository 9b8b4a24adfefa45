"""``trt_build verify`` with real TensorRT engines that hold the plugin. Needs a GPU."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import onnx
import pytest

from runtime.images import write_image
from tests.synthetic_checkpoint import GOLDEN

pytestmark = pytest.mark.gpu

SWIN = {"preset": "co_dino_swin_tiny", "height": 160, "width": 224}


def trt_build(*arguments):
    command = [sys.executable, "-m", "trt_build", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """The pictures of the goldens, of two aspect ratios."""
    folder = tmp_path_factory.mktemp("photos")
    for case in ("swin_tiny_a", "swin_tiny_b_masked"):
        write_image(folder / f"{case}.png", np.load(GOLDEN / f"{case}.npz")["image_rgb_u8"])
    return folder


@pytest.fixture(scope="module", params=["fp32", "fp16", "bf16"])
def engine(request, exported, timing_cache):
    """An engine with settled weights."""
    files = exported(**SWIN, precision=request.param, stable=True)
    path = files.plugin.with_suffix(".engine")
    options = ["--backend", "tensorrt", "--timing-cache", timing_cache]
    built = trt_build(files.plugin, "-o", path, *options)
    assert built.returncode == 0, built.stderr
    return path


def test_an_engine_passes(engine, exported, photos, timing_cache, tmp_path):
    """In bf16 the stages alone have to be right: its three bits less move some of the boxes."""
    reference = exported(**SWIN, precision="fp32", stable=True).reference
    result_path = tmp_path / "result.json"
    arguments = ["--reference", reference, "--images", photos, "--json", result_path]
    precision = json.loads(engine.with_name(engine.name + ".json").read_text())["model"][
        "precision"
    ]
    if precision == "bf16":
        arguments += ["--min-agreement", "0.5"]
    done = trt_build("verify", engine, *arguments, "--timing-cache", timing_cache)
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads(result_path.read_text())
    assert result["passed"] and result["precision"] == precision
    assert len(result["stages"]) == 4 + 5 + 1 + 3
    assert all(0 < stage["relative_error"] <= result["limit"] for stage in result["stages"])
    assert all(1 < stage["max_reference"] < 100 for stage in result["stages"])
    # The second engine is temporary.
    assert not list(engine.parent.glob("*stages*"))


def test_detections_alone(engine, exported, photos):
    reference = exported(**SWIN, precision="fp32", stable=True).reference
    arguments = ["--reference", reference, "--images", photos, "--no-stages"]
    done = trt_build("verify", engine, *arguments, "--min-agreement", "0.5")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "stages" not in done.stdout


def test_an_engine_of_other_weights_fails(engine, exported, tmp_path):
    """An engine whose manifest says it belongs to the reference, and that computes otherwise."""
    other = exported(**SWIN, precision="fp32")
    reference = tmp_path / "other.ref.onnx"

    model = onnx.load(other.reference)
    metadata = json.loads(model.metadata_props[0].value)
    manifest = json.loads(engine.with_name(engine.name + ".json").read_text())
    metadata["weights_sha256"] = manifest["model"]["weights_sha256"]
    onnx.helper.set_model_props(model, {"codetr": json.dumps(metadata)})
    onnx.save(model, reference)
    done = trt_build("verify", engine, "--reference", reference, "--no-stages")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "of the detections agree, less than 99.00%" in done.stdout
