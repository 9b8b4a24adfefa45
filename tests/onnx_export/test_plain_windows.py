"""Window attention written out in plain ONNX computes what the PyTorch operator computes."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import onnxruntime
import pytest
import torch

from codetr.window_attn import window_attention
from onnx_export.node import DOMAIN, WINDOW_OP_TYPE
from onnx_export.passes import CLEAN_UP, run_passes
from onnx_export.reference import write_out_custom_nodes, write_out_windows_without_kernel
from onnx_export.window_bias import leave_bias_to_windows

HEADS, WINDOW = 2, 4
CHANNELS = 8 * HEADS


def graph_of(
    batch,
    size,
    shift,
    dtype=np.float32,
    window=WINDOW,
    channels=CHANNELS,
    blocks=1,
    add_bias=0,
):
    """A graph of custom nodes, one after the other; ``batch`` None is dynamic."""
    rows = "batch" if batch is None else batch
    shape = (HEADS, window**2, window**2)
    inputs = [
        gs.Variable("qkv", dtype, (rows, *size, 3 * channels)),
        gs.Variable("padding", dtype, (3 * channels,)),
        gs.Variable("bias", dtype, shape),
    ]
    outputs = [gs.Variable(f"output{i}", dtype, (rows, *size, channels)) for i in range(blocks)]
    attributes = {"window_size": window, "shift": shift, "add_bias": add_bias}
    nodes = [
        gs.Node(WINDOW_OP_TYPE, f"{i}", attributes, inputs, [output], domain=DOMAIN)
        for i, output in enumerate(outputs)
    ]
    return gs.Graph(nodes, inputs, outputs, opset=20)


def run(graph: gs.Graph, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    model: onnx.ModelProto = gs.export_onnx(graph, ir_version=10)
    onnx.checker.check_model(model)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return session.run(None, feeds)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize(("model_batch", "batch"), [(1, 1), (2, 2), (None, 3)])
@pytest.mark.parametrize("shift", [0, 2])
@pytest.mark.parametrize("size", [(8, 12), (5, 10), (3, 4), (2, 3)])
def test_equals_the_operator(size, shift, model_batch, batch, dtype):
    graph = graph_of(model_batch, size, shift, dtype)
    assert write_out_custom_nodes(graph) == "1 custom nodes written out"
    assert_equals_the_operator(graph, batch, size, shift, dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("size", [(8, 12), (5, 10)])
def test_adds_the_bias_before_it_pads(size, dtype):
    graph = graph_of(None, size, 2, dtype, add_bias=1)
    write_out_custom_nodes(graph)
    assert_equals_the_operator(graph, 2, size, 2, dtype, add_bias=True)


@pytest.mark.parametrize("add_on_the_left", [False, True])
def test_biases_are_left_to_the_nodes(add_on_the_left):
    graph = graph_of(1, (5, 10), 2)
    (node,) = graph.nodes
    qkv, padding, _ = node.inputs
    total = gs.Variable("total", np.float32, qkv.shape)
    operands = [padding, qkv] if add_on_the_left else [qkv, padding]
    graph.nodes.append(gs.Node("Add", "add", {}, operands, [total]))
    node.inputs[0] = total
    assert leave_bias_to_windows(graph) == "1 biases left to window attention"
    assert graph.nodes == [node]
    assert (node.inputs[0], node.attrs["add_bias"]) == (qkv, 1)
    write_out_custom_nodes(graph)
    assert_equals_the_operator(graph, 1, (5, 10), 2, np.float32, add_bias=True)


@pytest.mark.parametrize("shift", [0, 2])
@pytest.mark.parametrize("size", [(8, 12), (5, 10), (2, 3)])
@pytest.mark.parametrize("add_bias", [0, 1])
def test_equals_the_operator_at_sizes_known_at_run_time(add_bias, size, shift):
    graph = graph_of(None, ("height", "width"), shift, add_bias=add_bias)
    run_passes(graph, (write_out_custom_nodes, *CLEAN_UP), print)
    assert_equals_the_operator(graph, 2, size, shift, np.float32, add_bias=bool(add_bias))


@pytest.mark.parametrize("batch", [1, 2])
def test_equals_the_operator_when_constants_are_folded(batch):
    graph = graph_of(batch, (5, 10), 2)
    run_passes(graph, (write_out_custom_nodes, *CLEAN_UP), print)
    assert_equals_the_operator(graph, batch, (5, 10), 2, np.float32)


def assert_equals_the_operator(graph, batch, size, shift, dtype, *, add_bias=False):
    rng = np.random.default_rng(0)
    feeds = {
        "qkv": rng.standard_normal((batch, *size, 3 * CHANNELS)).astype(dtype),
        "padding": rng.standard_normal(3 * CHANNELS).astype(dtype),
        "bias": rng.standard_normal((HEADS, WINDOW**2, WINDOW**2)).astype(dtype),
    }
    (found,) = run(graph, feeds)
    qkv, padding, bias = [torch.from_numpy(array).float() for array in feeds.values()]
    qkv = qkv + padding if add_bias else qkv
    wanted = window_attention(qkv, padding, bias, WINDOW, shift).numpy()
    assert found.dtype == dtype
    np.testing.assert_allclose(found, wanted, atol=1e-5 if dtype == np.float32 else 5e-3)


@pytest.mark.parametrize("size", [(8, 12), ("height", "width")])
def test_blocks_of_a_stage_share_the_mask(size):
    graph = graph_of(1, size, 2, blocks=3)
    write_out_custom_nodes(graph)
    assert [node.op for node in graph.nodes].count("Equal") == 1


@pytest.mark.parametrize(
    ("kept", "options"),
    [
        (True, {"dtype": np.float16}),
        (False, {"dtype": np.float32}),
        (False, {"dtype": np.float16, "window": 6}),
        (False, {"dtype": np.float16, "channels": HEADS * 16}),
    ],
)
def test_nodes_stay_where_the_plugin_has_a_kernel(kept, options):
    graph = graph_of(1, (8, 12), 2, **({"window": 8, "channels": HEADS * 32} | options))
    assert write_out_windows_without_kernel(graph) == f"{int(not kept)} custom nodes written out"
    assert [node.op for node in graph.nodes].count(WINDOW_OP_TYPE) == int(kept)
