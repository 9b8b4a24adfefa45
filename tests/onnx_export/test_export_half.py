"""The half-precision exports: types, detections, and an engine made of them."""

from __future__ import annotations

import json
import subprocess
import sys

import onnx
import pytest
from onnx import TensorProto

from tests.detections import golden_inputs, run_graph, run_model
from trt_build.agreement import agreement

TINY = {"preset": "co_dino_swin_tiny", "height": 160, "width": 224}
CASES = {
    "swin_tiny_a": TINY,
    "swin_tiny_b_masked": TINY,
    "r50_small_a_masked": {"preset": "co_dino_r50_small", "height": 128, "width": 192},
}


@pytest.mark.parametrize("case", CASES)
def test_detections_agree(exported, case):
    files = exported(**CASES[case], precision="fp16", stable=True)
    inputs = golden_inputs(case)
    wanted = run_model(CASES[case]["preset"], files.weights, inputs)
    assert agreement(run_graph(files.reference, inputs), wanted) >= 0.99


def test_windows_are_custom_nodes(exported):
    graph = onnx.load(exported(**TINY, precision="fp16", stable=True).plugin).graph
    nodes = [node for node in graph.node if node.op_type == "CoDetrWindowAttention"]
    assert [node.name.split("/")[0] for node in nodes] == [
        f"backbone.stages.{stage}.blocks.{block}.attn" for stage in range(4) for block in range(2)
    ]
    constants = {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    for node, heads in zip(nodes, (1, 1, 2, 2, 4, 4, 8, 8), strict=True):
        attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        shift = 3 if "blocks.1" in node.name else 0
        assert (attributes["window_size"], attributes["shift"]) == (7, shift)
        assert constants[node.input[1]] == [3 * 32 * heads]  # the bias of qkv
        assert constants[node.input[2]] == [heads, 49, 49]  # folded


@pytest.mark.parametrize(
    ("precision", "element"), [("fp16", TensorProto.FLOAT16), ("bf16", TensorProto.BFLOAT16)]
)
def test_products_are_in_the_asked_precision(exported, precision, element):
    files = exported(**TINY, precision=precision, stable=precision == "fp16")
    graph = onnx.load(files.plugin).graph
    types = {tensor.name: tensor.data_type for tensor in graph.initializer}
    types |= {value.name: value.type.tensor_type.elem_type for value in graph.value_info}
    for node in graph.node:
        if node.op_type in ("MatMul", "Conv", "Gelu"):
            # Outside of all modules are positions only, which are in float32.
            wanted = TensorProto.FLOAT if node.name.startswith("detector/") else element
            assert {types[name] for name in node.input} == {wanted}, node.name
        if node.op_type in ("LayerNormalization", "InstanceNormalization", "TopK", "Sigmoid"):
            assert types[node.input[0]] == TensorProto.FLOAT, node.name
        if node.op_type == "CoDetrMSDeformAttn":
            found = [types[name] for name in node.input]
            assert found == [element] * 2 + [TensorProto.FLOAT] + [TensorProto.INT32] * 2
        if node.op_type == "CoDetrWindowAttention":
            assert [types[name] for name in node.input] == [element] * 3


def test_bf16_convolutions_are_valid_onnx(exported):
    files = exported(**TINY, precision="bf16")
    onnx.checker.check_model(onnx.load(files.reference), full_check=True)


def test_tensorrt_rtx_engine(exported, tmp_path):
    files = exported(**TINY, precision="fp16", stable=True)
    engine = tmp_path / "model.engine"
    command = [sys.executable, "-m", "trt_build", files.reference, "-o", engine]
    subprocess.run([*command, "--backend", "tensorrt-rtx"], check=True)
    manifest = json.loads(engine.with_name("model.engine.json").read_text())
    assert manifest["model"]["precision"] == "fp16"
    assert manifest["layers"]["output_types"]["Half"] > 100
    assert engine.stat().st_size > files.reference.stat().st_size / 2
