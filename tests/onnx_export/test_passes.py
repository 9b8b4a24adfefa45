"""Every pass changes what it says and nothing that the graph computes."""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs
import onnxruntime
import pytest
from onnx import TensorProto

from onnx_export.passes import (
    CLEAN_UP,
    FOLD_LIMIT,
    fold_constants,
    name_tensors,
    remove_cast_pairs,
    remove_dead_ends,
    run_passes,
)

# Exact in float16: ONNX Runtime's CPU kernels skip some roundings to float16.
X = np.array([[-3, -1.5, 0], [0.25, 2, 4]], np.float32)


def graph_of(*steps: tuple[str, dict], dead_end: bool = False) -> gs.Graph:
    """A chain of nodes from x (2, 3) float32 to y; constants as ``inputs`` of a step."""
    x = tensor = gs.Variable("x", np.float32, (2, 3))
    nodes = []
    for index, (op, options) in enumerate(steps):
        attributes = dict(options)
        extra = attributes.pop("inputs", [])
        dtype = attributes.pop("dtype", np.float32)
        output = gs.Variable(f"t{index}", dtype, (2, 3))
        nodes.append(gs.Node(op, f"chain/{op}_{index}", attributes, [tensor, *extra], [output]))
        tensor = output
    if dead_end:
        nodes.append(gs.Node("Neg", "dead", {}, [x], [gs.Variable("nobody")]))
    tensor.name = "y"
    return gs.Graph(nodes, [x], [tensor], opset=20)


def run(graph: gs.Graph) -> np.ndarray:
    model = gs.export_onnx(graph, ir_version=10).SerializeToString()
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return session.run(["y"], {"x": X})[0]


def computed_constant(size: int) -> gs.Variable:
    """A tensor of ones (size, 1, 1) of which a node takes the negative."""
    output = gs.Variable("negative", np.float32, (size, 1, 1))
    gs.Node("Neg", "negate", {}, [gs.Constant("ones", np.ones((size, 1, 1), np.float32))], [output])
    return output


def with_constant(size: int) -> gs.Graph:
    constant = computed_constant(size)
    graph = graph_of(("Add", {"inputs": [constant]}))
    graph.nodes.insert(0, constant.inputs[0])
    return graph


def test_constants_are_folded():
    graph = with_constant(1)
    before = run(graph)
    assert fold_constants(graph) == "constants folded, 2 -> 1 nodes"
    np.testing.assert_array_equal(run(graph), before)


def test_large_constants_stay_computed():
    graph = with_constant(FOLD_LIMIT // 4 + 1)
    assert fold_constants(graph) == "constants folded, 2 -> 2 nodes"


def test_bfloat16_constants_are_left_alone():
    graph = graph_of(("Relu", {}))
    value = gs.Constant("c", np.ones(3, np.float32))
    half = gs.Variable("half", TensorProto.BFLOAT16, (3,))
    back = gs.Variable("back", np.float32, (3,))
    graph.nodes += [
        gs.Node("Cast", "to_half", {"to": TensorProto.BFLOAT16}, [value], [half]),
        gs.Node("Cast", "to_float", {"to": TensorProto.FLOAT}, [half], [back]),
    ]
    graph.outputs.append(back)
    assert fold_constants(graph) == "constants folded, 3 -> 3 nodes"


FLOAT, HALF = {"to": TensorProto.FLOAT}, {"to": TensorProto.FLOAT16}


@pytest.mark.parametrize(
    ("steps", "removed"),
    [
        # to the type it has already
        ([("Relu", {}), ("Cast", FLOAT), ("Neg", {})], 1),
        # to half and back loses bits: kept
        ([("Cast", {**HALF, "dtype": np.float16}), ("Cast", FLOAT), ("Neg", {})], 0),
        # half to float and back: both go
        (
            [
                ("Cast", {**HALF, "dtype": np.float16}),
                ("Cast", FLOAT),
                ("Cast", {**HALF, "dtype": np.float16}),
                ("Neg", {"dtype": np.float16}),
                ("Cast", FLOAT),
            ],
            1,
        ),
    ],
)
def test_cast_pairs(steps, removed):
    graph = graph_of(*steps)
    before = run(graph)
    count = len(graph.nodes)
    assert remove_cast_pairs(graph) == f"{removed} casts removed"
    assert len(graph.nodes) <= count - removed
    np.testing.assert_array_equal(run(graph), before)


def test_dead_ends():
    graph = graph_of(("Relu", {}), dead_end=True)
    assert remove_dead_ends(graph) == "1 dead ends removed"
    assert [node.op for node in graph.nodes] == ["Relu"]


def test_tensors_are_named_after_their_nodes():
    graph = graph_of(("Relu", {}), ("Neg", {}), ("Abs", {}))
    before = run(graph)
    assert name_tensors(graph) == "2 tensors named"
    assert [node.outputs[0].name for node in graph.nodes] == ["chain/Relu_0", "chain/Neg_1", "y"]
    np.testing.assert_array_equal(run(graph), before)


def test_every_pass_is_reported():
    lines: list[str] = []
    run_passes(graph_of(("Relu", {})), CLEAN_UP, lines.append)
    assert [line.partition(":")[0] for line in lines] == [p.__name__ for p in CLEAN_UP]
