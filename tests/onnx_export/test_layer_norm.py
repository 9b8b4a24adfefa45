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
from onnx_export.layer_norm import fuse_layer_norms
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
