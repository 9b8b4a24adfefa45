"""The half-precision exports: types, detections, and an engine made of them."""

from __future__ import annotations

import json
import subprocess
import sys

import onnx
import pytest
import torch
from onnx import TensorProto, helper

from codetr.checkpoint import load_original
from codetr.model import CoDino
from codetr.presets import PRESETS
from onnx_export.precision import Precision, TypedModel
from tests.detections import golden_inputs, run_graph, run_model
from tests.synthetic_checkpoint import settled, state_of
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
        if node.op_type in ("LayerNormalization", "ReduceMean", "Sqrt", "TopK", "Sigmoid"):
            assert types[node.input[0]] == TensorProto.FLOAT, node.name
        if node.op_type == "CoDetrMSDeformAttn":
            found = [types[name] for name in node.input]
            assert found == [element] * 2 + [TensorProto.FLOAT] + [TensorProto.INT32] * 2
        if node.op_type == "CoDetrWindowAttention":
            assert [types[name] for name in node.input] == [element] * 3


@pytest.mark.parametrize(
    ("precision", "wanted"), [("fp32", b"none"), ("fp16", b"tanh"), ("bf16", b"tanh")]
)
def test_gelu_is_exact_in_fp32_alone(exported, precision, wanted):
    options = {"batch": "dynamic"} if precision == "fp32" else {"stable": precision == "fp16"}
    graph = onnx.load(exported(**TINY, precision=precision, **options).reference).graph
    nodes = [node for node in graph.node if node.op_type == "Gelu"]
    assert len(nodes) == sum(PRESETS[TINY["preset"]].backbone.depths)
    found = {helper.get_node_attr_value(node, "approximate") for node in nodes}
    assert found == {wanted}
    assert "Erf" not in {node.op_type for node in graph.node}


def test_gelu_by_tanh_is_no_further_from_fp32_than_rounding():
    """Backbone maps of float16 with either GELU, against float32."""
    images = torch.from_numpy(golden_inputs("swin_tiny_a")["batch_inputs"])

    def maps(precision: Precision, approximate: str) -> list[torch.Tensor]:
        model = CoDino(PRESETS[TINY["preset"]])
        load_original(model, settled(state_of(TINY["preset"])))
        typed = TypedModel(model, precision).eval()
        gelus = [module for module in typed.modules() if isinstance(module, torch.nn.GELU)]
        chosen = "none" if precision == "fp32" else "tanh"
        assert {module.approximate for module in gelus} == {chosen}
        for module in gelus:
            module.approximate = approximate
        with torch.inference_mode():
            return [x.float() for x in typed.model.backbone(images.to(typed.dtype))]

    wanted, exact, by_tanh = maps("fp32", "none"), maps("fp16", "none"), maps("fp16", "tanh")
    for w, e, t in zip(wanted, exact, by_tanh, strict=True):
        assert not t.equal(e)
        assert (t - w).norm() < 1.1 * (e - w).norm()


def test_tensorrt_has_gelu_by_tanh_as_an_activation(exported):
    """Which it computes within the product; what is written out it would not."""
    import tensorrt_rtx as trt

    logger = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(logger)
    flag = trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED
    network = builder.create_network(1 << int(flag))
    parser = trt.OnnxParser(network, logger)
    files = exported(**TINY, precision="fp16", stable=True)
    assert parser.parse_from_file(str(files.reference))
    layers = [network.get_layer(index) for index in range(network.num_layers)]
    activations = [layer for layer in layers if layer.type == trt.LayerType.ACTIVATION]
    for layer in activations:
        layer.__class__ = trt.IActivationLayer  # how the bindings tell more of a layer
    found = [layer.type == trt.ActivationType.GELU_TANH for layer in activations]
    assert sum(found) == sum(PRESETS[TINY["preset"]].backbone.depths)


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
