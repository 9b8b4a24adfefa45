"""An export in fp8: what is quantised, and that it detects what PyTorch does with rounded tensors."""

from __future__ import annotations

import json
from collections import Counter

import cv2
import onnx
import pytest
import torch

from codetr.checkpoint import build_model, read_checkpoint
from onnx_export.calibration import E4M3_MAX
from onnx_export.precision import fp8_products
from runtime.backend import RawOutputs
from runtime.files import sha256_of
from tests.detections import golden_inputs, run_graph
from tests.synthetic_images import picture
from trt_build.agreement import agreement

PRESET = "co_dino_swin_tiny"
SIZE = {"height": 160, "width": 224}
CASE = "swin_tiny_b_masked"


@pytest.fixture(scope="module")
def files(exported, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    for seed in range(3):
        cv2.imwrite(str(folder / f"{seed}.png"), picture(160, 200, seed))
    return exported(PRESET, **SIZE, precision="fp8", calibration=folder, stable=True)


@pytest.fixture(scope="module")
def scales(files):
    return json.loads(files.plugin.with_suffix(".scales.json").read_text())


def test_scales_are_kept_and_named(files, scales):
    assert (scales["preset"], scales["pictures"]) == (PRESET, 3)
    assert scales["weights_sha256"] == sha256_of(files.weights)
    for path in (files.plugin, files.reference):
        metadata = json.loads(onnx.load(path).metadata_props[0].value)
        assert metadata["precision"] == "fp8"
        kept = files.plugin.with_suffix(".scales.json")
        assert metadata["calibration_sha256"] == sha256_of(kept)


def test_only_the_inputs_of_the_large_products_are_quantised(exported, files, scales):
    half = exported(PRESET, **SIZE, precision="fp16", stable=True)
    for found, wanted in ((files.plugin, half.plugin), (files.reference, half.reference)):
        graph, plain = onnx.load(found).graph, onnx.load(wanted).graph
        counts = Counter(node.op_type for node in graph.node)
        products = len(scales["scales"])
        added = {"QuantizeLinear": products, "DequantizeLinear": 2 * products}
        assert counts == Counter(node.op_type for node in plain.node) + Counter(added)
        given_by = {name: node.op_type for node in graph.node for name in node.output}
        quantised = {
            node.name.rpartition("/")[0]
            for node in graph.node
            if [given_by.get(name) for name in node.input] == ["DequantizeLinear"] * 2
        }
        assert quantised == scales["scales"].keys()


def test_files_are_smaller_than_in_fp16(exported, files):
    half = exported(PRESET, **SIZE, precision="fp16", stable=True)
    assert files.plugin.stat().st_size < 0.85 * half.plugin.stat().st_size


def test_detections_are_those_of_rounded_tensors(files, scales):
    inputs = golden_inputs(CASE)
    exact = simulated(files.weights, inputs, {})
    wanted = simulated(files.weights, inputs, scales["scales"])
    found = run_graph(files.reference, inputs)
    print(agreement(found, wanted), agreement(found, exact), agreement(wanted, exact))
    assert agreement(found, wanted) > max(0.5, agreement(found, exact))


def simulated(weights, inputs, scales):
    """PyTorch in float32, with inputs and weights of the products rounded to fp8."""
    model, _ = build_model(PRESET, read_checkpoint(weights))
    assert set(scales) <= set(fp8_products(model))
    for path, scale in scales.items():
        layer = model.get_submodule(path)
        layer.weight.data = rounded(layer.weight.data, layer.weight.abs().max() / E4M3_MAX)
        layer.register_forward_pre_hook(lambda _, args, scale=scale: (rounded(args[0], scale),))
    with torch.no_grad():
        outputs = model(*(torch.from_numpy(array) for array in inputs.values()))
    return RawOutputs(*(output.numpy() for output in outputs))


def rounded(x, scale):
    scale = torch.as_tensor(scale).half().float()  # as it is stored
    return (x / scale).clamp(-E4M3_MAX, E4M3_MAX).to(torch.float8_e4m3fn).float() * scale
