"""An export in fp8: what is quantised, and that it computes with tensors rounded to fp8."""

from __future__ import annotations

import json
from collections import Counter

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, numpy_helper

from codetr.checkpoint import build_model, read_checkpoint
from onnx_export.calibration import E4M3_MAX
from runtime.files import sha256_of
from tests.detections import golden_inputs
from tests.synthetic_images import picture

PRESET = "co_dino_swin_tiny"
SIZE = {"height": 160, "width": 224}
CASE = "swin_tiny_b_masked"


@pytest.fixture(scope="module")
def files(exported, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    for seed in range(3):
        cv2.imwrite(str(folder / f"{seed}.png"), picture(160, 200, seed))
    options = {"precision": "fp8", "calibration": folder, "kernels": "attention"}
    return exported(PRESET, **SIZE, **options, stable=True)


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
    half = exported(PRESET, **SIZE, precision="fp16", stable=True, kernels="attention")
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


@pytest.fixture(scope="module")
def nodes(exported, files):
    """The same with all kernels of the plugin."""
    calibration = files.plugin.with_suffix(".scales.json")
    return exported(PRESET, **SIZE, precision="fp8", calibration=calibration, stable=True)


def test_the_plugin_multiplies_and_quantises(nodes):
    """In Swin's 8 blocks and the encoder's 2 layers."""
    counts = Counter(node.op_type for node in onnx.load(nodes.plugin).graph.node)
    fp8 = {op: count for op, count in counts.items() if op.endswith("Fp8")}
    assert fp8 == {
        "CoDetrLayerNormToFp8": 2 * 8,  # for qkv and fc1
        "CoDetrLayerNormAndFp8": 2,  # for the encoder's FFN, which adds to it as it is too
        "CoDetrWindowAttentionToFp8": 8,
        "CoDetrLinearFp8": 8,  # qkv
        "CoDetrLinearFp8ToFp8": 8 + 2,  # fc1
        "CoDetrLinearAddFp8": 2 * 8 + 2,  # proj and fc2
    }
    for op in ("QuantizeLinear", "DequantizeLinear", "CoDetrWindowAttention"):
        assert counts[op] == 0
    # Of the patches and the encoder's attention.
    assert (counts["CoDetrLinear"], counts["CoDetrLinearAdd"]) == (1 + 4, 2)


def test_what_is_fp8_goes_from_node_to_node(nodes):
    graph = onnx.shape_inference.infer_shapes(onnx.load(nodes.plugin), strict_mode=True).graph
    types = {value.name: value.type.tensor_type.elem_type for value in graph.value_info}
    readers = Counter(name for node in graph.node for name in node.input)
    given_by = {name: node.op_type for node in graph.node for name in node.output}
    for node in graph.node:
        if node.op_type.startswith("CoDetrLinear") and "Fp8" in node.op_type:
            x = node.input[0]
            assert given_by[x].endswith(("ToFp8", "AndFp8"))
            assert readers[x] == 1
            assert types[x] == TensorProto.FLOAT8E4M3FN
            wanted = "FLOAT8E4M3FN" if node.op_type.endswith("ToFp8") else "FLOAT16"
            assert types[node.output[0]] == TensorProto.DataType.Value(wanted)


def test_what_a_node_divides_by_its_reader_multiplies_by(nodes):
    graph = onnx.load(nodes.plugin).graph
    numbers = {t.name: numpy_helper.to_array(t).item() for t in graph.initializer if t.dims == [1]}
    inverse = {
        node.output[-1]: numbers[node.input[-1]]
        for node in graph.node
        if node.op_type.endswith(("ToFp8", "AndFp8")) and node.input[-1] in numbers
    }
    readers = [node for node in graph.node if node.input and node.input[0] in inverse]
    assert len(readers) == 8 + 8 + 2 + 2  # proj, fc2; the encoder's fc1 and fc2
    for node in readers:
        x_scale = node.input[-3 if node.op_type.endswith("ToFp8") else -2]
        assert inverse[node.input[0]] * numbers[x_scale] == pytest.approx(1, rel=1e-6)


def test_references_have_the_same_nodes(files, nodes):
    found, wanted = (
        Counter(node.op_type for node in onnx.load(each.reference).graph.node)
        for each in (nodes, files)
    )
    for op in (
        "QuantizeLinear",
        "DequantizeLinear",
        "MatMul",
        "LayerNormalization",
        "Gelu",
        "Relu",
    ):
        assert found[op] == wanted[op]


def test_files_are_smaller_than_in_fp16(exported, files):
    half = exported(PRESET, **SIZE, precision="fp16", stable=True)
    assert files.plugin.stat().st_size < 0.85 * half.plugin.stat().st_size


@pytest.mark.parametrize("kernels", ["attention", "all"])
def test_backbone_is_that_of_rounded_tensors(files, nodes, scales, kernels):
    """Its first map: behind it, the synthetic weights blow up the difference of any rounding.

    Rounding to float16 moves some values to the next one of fp8, so the two are not equal; scales
    that are 1.3 times as large are 0.9 of ``lost`` away.
    """
    inputs = golden_inputs(CASE)
    exact = simulated(files.weights, inputs, {})
    wanted = simulated(files.weights, inputs, scales["scales"])
    found = first_map((files if kernels == "attention" else nodes).reference, inputs)
    lost = relative_error(wanted, exact)
    assert 0.01 < lost < 0.1  # by fp8
    assert relative_error(found, wanted) < 0.7 * lost


def simulated(weights, inputs, scales):
    """The backbone's first map in PyTorch, float32, where products round their tensors to fp8."""
    model, _ = build_model(PRESET, read_checkpoint(weights))
    for path, scale in scales.items():
        layer = model.get_submodule(path)
        layer.weight.data = rounded(layer.weight.data, layer.weight.abs().max() / E4M3_MAX)
        layer.register_forward_pre_hook(lambda _, args, scale=scale: (rounded(args[0], scale),))
    with torch.no_grad():
        return model.backbone(torch.from_numpy(inputs["batch_inputs"]))[0].numpy()


def first_map(path, inputs):
    """The same of an exported graph."""
    model = onnx.load(path)
    name = json.loads(model.metadata_props[0].value)["stages"]["backbone"][0]
    model.graph.output.append(onnx.helper.make_tensor_value_info(name, TensorProto.FLOAT16, None))
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return session.run([name], inputs)[0].astype(np.float32)


def relative_error(found, wanted):
    return np.linalg.norm(found - wanted) / np.linalg.norm(wanted)


def rounded(x, scale):
    scale = torch.as_tensor(scale).half().float()  # as it is stored
    return (x / scale).clamp(-E4M3_MAX, E4M3_MAX).to(torch.float8_e4m3fn).float() * scale
