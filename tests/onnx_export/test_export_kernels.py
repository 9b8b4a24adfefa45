"""Exports with the plugin's further operators: the nodes, and that they mean the same."""

from __future__ import annotations

import json
from collections import Counter

import onnx
import pytest
from onnx import TensorProto

from codetr.model import CoDino
from codetr.presets import PRESETS
from onnx_export.linear import count_linear, linear_layers
from onnx_export.precision import fp8_products
from tests.detections import assert_close, golden_inputs, run_graph

TINY = {"preset": "co_dino_swin_tiny", "height": 160, "width": 224, "precision": "fp16"}


@pytest.fixture(scope="module")
def files(exported):
    """The default export, with all operators, and the one with those of attention alone."""
    return exported(**TINY, stable=True), exported(**TINY, stable=True, kernels="attention")


def test_norms_are_custom_nodes(files):
    graph = onnx.load(files[0].plugin).graph
    nodes = {node.name: node for node in graph.node}
    levels = [*(f"convs.{i}" for i in range(4)), "extra_convs.0"]
    types = {tensor.name: tensor.data_type for tensor in graph.initializer}
    types |= {value.name: value.type.tensor_type.elem_type for value in graph.value_info}
    for level in levels:
        node = nodes[f"neck.{level}.gn/CoDetrGroupNorm"]
        attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        assert attributes == {"num_groups": 32, "plugin_version": b"1", "plugin_namespace": b""}
        assert list(node.input[1:]) == [f"neck.{level}.gn.weight", f"neck.{level}.gn.bias"]
        assert [types[name] for name in (*node.input, node.output[0])] == [
            *(TensorProto.FLOAT16, TensorProto.FLOAT, TensorProto.FLOAT, TensorProto.FLOAT16)
        ]
    ops = Counter(node.op_type for node in graph.node)
    assert ops["CoDetrGroupNorm"] == len(levels)
    assert (ops["ReduceMean"], ops["Sqrt"]) == (0, 0)


def test_layer_norms_are_custom_nodes(files):
    graph, other = onnx.load(files[0].plugin).graph, onnx.load(files[1].plugin).graph
    types = {tensor.name: tensor.data_type for tensor in graph.initializer}
    types |= {value.name: value.type.tensor_type.elem_type for value in graph.value_info}
    nodes = [node for node in graph.node if node.op_type.endswith("LayerNorm")]
    for node in nodes:
        path = node.name.removesuffix(f"/{node.op_type}")
        assert list(node.input[1:3]) == [f"{path}.weight", f"{path}.bias"]
        assert [types[name] for name in (*node.input[:3], node.output[0])] == [
            *(TensorProto.FLOAT16, TensorProto.FLOAT, TensorProto.FLOAT, TensorProto.FLOAT16)
        ]
        attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        assert attributes == {"plugin_version": b"1", "plugin_namespace": b""}
    # All of them, and their casts are gone with them.
    before, after = (Counter(node.op_type for node in each.node) for each in (other, graph))
    assert len(nodes) == before["LayerNormalization"] == 39
    assert after["LayerNormalization"] == 0
    casts_of_group_norms = 2 * after["CoDetrGroupNorm"]
    assert before["Cast"] - after["Cast"] == 2 * len(nodes) + casts_of_group_norms


def test_norms_read_what_others_would_write(files):
    """Neighbours that are to be merged, and both summands of the encoder's residual stream."""
    graph = onnx.load(files[0].plugin).graph
    nodes = {node.name: node for node in graph.node}
    made = {name: node.op_type for node in graph.node for name in node.output}
    for stage in range(3):
        node = nodes[f"backbone.stages.{stage}.downsample.norm/CoDetrMergeLayerNorm"]
        assert made[node.input[0]] == "CoDetrLinearAdd"  # the last block's fc2
    for layer in range(2):
        node = nodes[f"encoder.layers.{layer}.norm2/CoDetrAddLayerNorm"]
        assert {made[node.input[0]], made[node.input[3]]} == {"CoDetrLayerNorm", "Add"}  # a bias
    assert (
        sum(node.op_type.endswith(("MergeLayerNorm", "AddLayerNorm")) for node in graph.node) == 5
    )


def test_their_reference_has_norms_of_float32(files):
    graph = onnx.load(files[0].reference).graph
    made = {name: node for node in graph.node for name in node.output}
    norms = [node for node in graph.node if node.op_type == "LayerNormalization"]
    assert len(norms) == 39
    for norm in norms:
        cast = made[norm.input[0]]
        assert (cast.op_type, onnx.helper.get_node_attr_value(cast, "to")) == ("Cast", 1)


LINEAR, ADD = "CoDetrLinear", "CoDetrLinearAdd"


def test_linear_layers_are_custom_nodes(files):
    graph = onnx.load(files[0].plugin).graph
    nodes = {node.name: node for node in graph.node}
    constants = {tensor.name: tensor for tensor in graph.initializer}
    types = {value.name: value.type.tensor_type.elem_type for value in graph.value_info}
    for path, op, size, activation in expected_layers():
        node = nodes.pop(f"{path}/{op}")
        attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        assert attributes.pop("activation") == activation
        assert attributes == {"plugin_version": b"1", "plugin_namespace": b""}
        weight, bias = (constants[name] for name in node.input[1:3])
        assert (list(weight.dims), list(bias.dims)) == (size, size[:1])
        assert weight.data_type == bias.data_type == TensorProto.FLOAT16
        assert [types[name] for name in node.input[3:]] == [TensorProto.FLOAT16] * (op == ADD)
    assert not {"Gelu", LINEAR, ADD} & {node.op_type for node in nodes.values()}


def expected_layers():
    """Module path, op type, (N, K) and activation: 1 is GELU."""
    yield "backbone.patch_embed.projection", LINEAR, [32, 3 * 4 * 4], 0
    for stage, channels in enumerate((32, 64, 128, 256)):
        for block in range(2):
            path = f"backbone.stages.{stage}.blocks.{block}"
            yield f"{path}.attn.proj", ADD, [channels, channels], 0
            yield f"{path}.fc1", LINEAR, [4 * channels, channels], 1
            yield f"{path}.fc2", ADD, [channels, 4 * channels], 0
    for layer in range(2):
        path = f"encoder.layers.{layer}"
        yield f"{path}.self_attn.sampling", LINEAR, [480, 256], 0
        yield f"{path}.self_attn.value_proj", LINEAR, [256, 256], 0
        yield f"{path}.self_attn.output_proj", ADD, [256, 256], 0


def test_with_fp8_all_that_are_quantised_are_nodes():
    model = CoDino(PRESETS[TINY["preset"]])
    half, fp8 = (linear_layers(model, precision) for precision in ("fp16", "fp8"))
    assert set(half) == {path for path, *_ in expected_layers()}
    assert set(fp8) == {*half, *fp8_products(model)}
    # The patches'; of Swin's 8 blocks qkv, fc1, proj and fc2; of the encoder's 2 layers value_proj,
    # sampling and fc1, output_proj and fc2.
    assert count_linear(fp8) == {LINEAR: 1 + 2 * 8 + 3 * 2, ADD: 2 * 8 + 2 * 2}


def test_residual_streams_go_from_node_to_node(files):
    graph = onnx.load(files[0].plugin).graph
    given_by = {name: node for node in graph.node for name in node.output}
    nodes = {node.name: node for node in graph.node}
    block = "backbone.stages.0.blocks.1"
    fc2 = nodes[f"{block}.fc2/{ADD}"]
    proj = given_by[fc2.input[3]]
    assert proj.name == f"{block}.attn.proj/{ADD}"
    assert given_by[proj.input[3]].name == f"backbone.stages.0.blocks.0.fc2/{ADD}"


def test_windows_add_the_bias_of_their_product(files):
    for graph, add_bias in zip(
        (onnx.load(each.plugin).graph for each in files), (1, 0), strict=True
    ):
        makers = {name: node for node in graph.node for name in node.output}
        windows = [node for node in graph.node if node.op_type == "CoDetrWindowAttention"]
        assert len(windows) == 8
        for node in windows:
            attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
            assert attributes["add_bias"] == add_bias
            source = makers[node.input[0]]
            path = node.name.removesuffix("/CoDetrWindowAttention")
            assert source.name == f"{path}.qkv/{'MatMul' if add_bias else 'Add'}"
            assert node.input[1] in ([f"{path}.qkv.bias"] if add_bias else source.input)


def test_with_attention_alone_there_are_none(files):
    ops = {node.op_type for node in onnx.load(files[1].plugin).graph.node}
    assert not {"CoDetrGroupNorm", "CoDetrLayerNorm", LINEAR, ADD} & ops


def test_the_metadata_tells_them_apart(files):
    models = [onnx.load(path) for each in files for path in (each.plugin, each.reference)]
    metadata = [json.loads(model.metadata_props[0].value) for model in models]
    assert [entry["kernels"] for entry in metadata] == ["all", "all", "attention", "attention"]
    for model, entry in zip(models, metadata, strict=True):
        made = {name for node in model.graph.node for name in node.output}
        assert len(entry["stages"]["neck"]) == 5
        assert made.issuperset(entry["stages"]["neck"])


def test_the_references_agree(files):
    inputs = golden_inputs("swin_tiny_b_masked")
    found, wanted = (run_graph(each.reference, inputs) for each in files)
    assert_close(found, wanted, 1e-4)
