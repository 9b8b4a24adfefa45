"""Which layer norms become nodes of the plugin, and that a node written out means the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import onnxruntime
import pytest
import torch
from onnx import TensorProto

from codetr.layers import LayerNorm
from codetr.model import CoDino
from codetr.presets import PRESETS
from onnx_export.kernels import has_layer_norm_kernel
from onnx_export.layer_norm import fuse_layer_norms, let_norms_read_more
from onnx_export.reference import write_out_custom_nodes

HALF, FLOAT = TensorProto.FLOAT16, TensorProto.FLOAT


def norm_between_casts(
    shape: tuple[Any, ...] = (2, 5, 24),
    *,
    given: type = np.float16,
    wanted: int = HALF,
    epsilon: float = 1e-5,
    also_read_in_float32: bool = False,
) -> gs.Graph:
    """What the exporter makes of a norm, with random parameters."""
    rng = np.random.default_rng(0)
    results = {HALF: np.float16, FLOAT: np.float32}
    x, y = gs.Variable("x", given, shape), gs.Variable("y", results[wanted], shape)
    weight, bias = (
        gs.Constant(name, rng.standard_normal(shape[-1]).astype(np.float32))
        for name in ("weight", "bias")
    )
    wide, normed = gs.Variable("wide", np.float32, shape), gs.Variable("normed", np.float32, shape)
    attributes = {"axis": -1, "epsilon": epsilon, "stash_type": 1}
    nodes = [
        gs.Node("Cast", "m/Cast", {"to": FLOAT}, [x], [wide]),
        gs.Node("LayerNormalization", "m/LayerNormalization", attributes, [wide, weight, bias]),
        gs.Node("Cast", "m/Cast_2", {"to": wanted}, [normed], [y]),
    ]
    nodes[1].outputs = [normed]
    outputs = [y]
    if also_read_in_float32:
        outputs.append(gs.Variable("z", np.float32, shape))
        nodes.append(gs.Node("Neg", "Neg", {}, [normed], outputs[1:]))
    return gs.Graph(nodes, [x], outputs, opset=20)


def fused(graph: gs.Graph) -> bool:
    report = fuse_layer_norms(graph)
    assert report in ("0 layer norms fused", "1 layer norms fused")
    ops = {node.op for node in graph.nodes}
    assert ("LayerNormalization" in ops) == (report[0] == "0")
    return ops == {"CoDetrLayerNorm"}


@pytest.mark.parametrize("shape", [(2, 5, 24), ("batch", 5, 24), (1, 3, 5, 4096)])
def test_a_norm_of_half_precision_becomes_a_node(shape):
    graph = norm_between_casts(shape)
    assert fused(graph)
    (node,) = graph.nodes
    assert (node.name, node.domain) == ("m/CoDetrLayerNorm", "codetr")
    assert [tensor.name for tensor in node.inputs] == ["x", "weight", "bias"]
    assert node.attrs == {"plugin_version": "1", "plugin_namespace": ""}
    assert graph.outputs == node.outputs


@pytest.mark.parametrize(
    "other",
    [
        {"given": np.float32},
        {"given": np.float32, "wanted": FLOAT},
        {"wanted": FLOAT},
        {"also_read_in_float32": True},
        {"epsilon": 1e-6},
        {"shape": (5, 24)},
        {"shape": (1, 2, 3, 5, 24)},
        {"shape": (2, 5, 20)},
        {"shape": (2, 5, 4104)},
    ],
    ids=str,
)
def test_another_norm_stays(other):
    assert not fused(norm_between_casts(**other))


@pytest.mark.parametrize("rows", [(2, 5), (2, 3, 4)])
def test_written_out_it_equals_the_module(rows):
    graph = norm_between_casts((*rows, 24))
    weight, bias = (torch.from_numpy(c.values) for c in graph.nodes[1].inputs[1:])
    assert fused(graph)
    assert write_out_custom_nodes(graph) == "1 custom nodes written out"
    model: onnx.ModelProto = gs.export_onnx(graph, ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    x = (300 + 2 * np.random.default_rng(1).standard_normal((*rows, 24))).astype(np.float16)
    (found,) = session.run(None, {"x": x})
    norm = LayerNorm(24)
    norm.load_state_dict({"weight": weight, "bias": bias})
    with torch.no_grad():
        wanted = norm(torch.from_numpy(x)).numpy()
    assert found.dtype == np.float16
    np.testing.assert_allclose(found, wanted, atol=4e-3)


@pytest.mark.parametrize("preset", PRESETS)
def test_the_plugin_computes_every_norm_of_every_preset(preset):
    with torch.device("meta"):
        model = CoDino(PRESETS[preset])
    norms = [module for module in model.modules() if isinstance(module, LayerNorm)]
    assert norms
    for norm in norms:
        assert norm.eps == 1e-5
        assert has_layer_norm_kernel(rank=4, channels=norm.normalized_shape[0])


MERGING = [0, 1, 3, 2, 4, 5]


def merging_norm(perm: list[int] = MERGING, *, also_read: bool = False) -> gs.Graph:
    """A norm of neighbours that are merged as the exporter writes it, of a map (2, 4, 6, 8)."""
    graph = norm_between_casts((2, 2, 3, 32))
    assert fused(graph)
    (norm,) = graph.nodes
    x = gs.Variable("map", np.float16, (2, 4, 6, 8))
    split = gs.Variable("split", np.float16, (2, 2, 2, 3, 2, 8))
    swapped = gs.Variable("swapped", np.float16, (2, 2, 3, 2, 2, 8))
    sizes = [gs.Constant(f"sizes_{len(s)}", np.array(s)) for s in (split.shape, (2, 2, 3, 32))]
    before = [
        gs.Node("Reshape", "Reshape", {}, [x, sizes[0]], [split]),
        gs.Node("Transpose", "Transpose", {"perm": perm}, [split], [swapped]),
        gs.Node("Reshape", "Reshape_2", {}, [swapped, sizes[1]], [norm.inputs[0]]),
    ]
    outputs = list(graph.outputs)
    if also_read:
        outputs.append(gs.Variable("z", np.float16, (2, 2, 3, 32)))
        before.append(gs.Node("Neg", "Neg", {}, [norm.inputs[0]], outputs[1:]))
    return gs.Graph([*before, norm], [x], outputs, opset=20)


def test_a_norm_gathers_what_is_merged():
    graph, other = merging_norm(), merging_norm()
    assert let_norms_read_more(graph) == "1 layer norms merge neighbours, 0 add"
    (node,) = graph.nodes
    assert (node.op, node.name) == ("CoDetrMergeLayerNorm", "m/CoDetrMergeLayerNorm")
    feeds = {"map": random_half((2, 4, 6, 8), 1)}
    found, wanted = (in_plain_onnx(each, feeds) for each in (graph, other))
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("other", [{"perm": [0, 1, 3, 4, 2, 5]}, {"also_read": True}], ids=str)
def test_what_else_is_merged_stays(other):
    assert let_norms_read_more(merging_norm(**other)) == "0 layer norms merge neighbours, 0 add"


def norm_of_sum(path: str, *, shape: tuple[int, ...] = (2, 5, 24), twice: bool = False) -> gs.Graph:
    graph = norm_between_casts((2, 5, 24))
    for node in graph.nodes:
        node.name = node.name.replace("m/", f"{path}/")
    fuse_layer_norms(graph)
    (norm,) = graph.nodes
    summands = [gs.Variable("a", np.float16, (2, 5, 24)), gs.Variable("b", np.float16, shape)]
    add = gs.Node("Add", "Add", {}, summands, [norm.inputs[0]])
    norm.inputs[0].name = "sum"
    outputs, others = list(graph.outputs), []
    if twice:
        outputs.append(gs.Variable("z", np.float16, (2, 5, 24)))
        others.append(gs.Node("Neg", "Neg", {}, [norm.inputs[0]], outputs[1:]))
    return gs.Graph([add, *others, norm], summands, outputs, opset=20)


def test_the_norm_behind_the_encoders_ffn_adds():
    path = "encoder.layers.3.norm2"
    graph, other = norm_of_sum(path), norm_of_sum(path)
    assert let_norms_read_more(graph) == "0 layer norms merge neighbours, 1 add"
    (node,) = graph.nodes
    assert (node.op, [x.name for x in node.inputs]) == (
        *("CoDetrAddLayerNorm", ["a", "weight", "bias", "b"]),
    )
    feeds = {name: random_half((2, 5, 24), seed) for seed, name in enumerate("ab")}
    found, wanted = (in_plain_onnx(each, feeds) for each in (graph, other))
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize(
    "other",
    [
        {"path": "encoder.layers.3.norm1"},
        {"path": "decoder.layers.3.norm2"},
        {"path": "encoder.layers.3.norm2", "shape": (24,)},
        {"path": "encoder.layers.3.norm2", "twice": True},
    ],
    ids=str,
)
def test_another_sum_stays(other):
    assert let_norms_read_more(norm_of_sum(**other)) == "0 layer norms merge neighbours, 0 add"


def in_plain_onnx(graph: gs.Graph, feeds: dict[str, np.ndarray]) -> np.ndarray:
    assert write_out_custom_nodes(graph) == "1 custom nodes written out"
    model = gs.export_onnx(graph, ir_version=10)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    found: np.ndarray = session.run(None, feeds)[0]
    return found


def random_half(shape: tuple[int, ...], seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float16)
