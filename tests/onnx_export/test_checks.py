"""What the graph test refuses, by one small graph each."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnx_export.checks import GraphError, check_graph
from onnx_export.node import DOMAIN, OP_TYPE, register_schemas


def model_of(*nodes: onnx.NodeProto, opset: int = 20, **constants: np.ndarray) -> onnx.ModelProto:
    register_schemas()
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 4])],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid(DOMAIN, 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


ONES = np.ones(4, np.float32)
RELU = helper.make_node("Relu", ["x"], ["y"])


def test_a_good_graph_passes():
    check_graph(model_of(RELU), {"Relu": 1, OP_TYPE: 0}, traced_batch=67)


@pytest.mark.parametrize(
    ("model", "complaint"),
    [
        (model_of(helper.make_node("Sqrt", ["x"], ["y"])), "1 Sqrt nodes"),
        (model_of(helper.make_node("ReduceMean", ["x"], ["y"])), "1 ReduceMean nodes"),
        (model_of(helper.make_node("Pow", ["x", "x"], ["y"])), "1 Pow nodes"),
        (
            model_of(helper.make_node("InstanceNormalization", ["x", "w", "w"], ["y"]), w=ONES),
            "1 InstanceNormalization nodes",
        ),
        (model_of(helper.make_node("Neg", ["x"], ["y"])), "0 Relu nodes instead of 1"),
        (
            model_of(
                helper.make_node("Cast", ["x"], ["d"], to=TensorProto.DOUBLE),
                helper.make_node("Cast", ["d"], ["y"], to=TensorProto.FLOAT),
            ),
            "float64",
        ),
        (
            model_of(
                helper.make_node("Reshape", ["x", "shape"], ["r"]),
                helper.make_node("Relu", ["r"], ["y"]),
                shape=np.array([67, 4]),
            ),
            "constant shape holds the traced batch 67",
        ),
        (model_of(RELU, opset=16), "opset 16"),
        (
            model_of(
                helper.make_node("Relu", ["x"], ["r"]),
                helper.make_node("MatMul", ["a", "b"], ["y"], "product"),
                a=np.ones((4, 4), np.float32),
                b=np.ones((4, 4), np.float16),
            ),
            "product multiplies FLOAT, FLOAT16",
        ),
    ],
)
def test_a_bad_graph_is_refused(model, complaint):
    with pytest.raises(GraphError, match=complaint):
        check_graph(model, {"Relu": 1}, traced_batch=67)


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
def test_a_multiple_of_the_traced_size_is_refused(dtype):
    nodes = [
        helper.make_node("Cast", ["shape"], ["whole"], to=TensorProto.INT64),
        helper.make_node("Reshape", ["x", "whole"], ["y"]),
    ]
    for size, is_refused in ((8 * 71, True), (4 * 79, True), (8 * 70, False), (0, False)):
        model = model_of(*nodes, shape=np.array([-1, size], dtype))
        if is_refused:
            with pytest.raises(GraphError, match=f"constant shape holds the traced size {size}"):
                check_graph(model, {}, None, (71, 79))
            check_graph(model, {}, None)
        else:
            check_graph(model, {}, None, (71, 79))


def written_out_norm(dtype: int) -> onnx.ModelProto:
    """The deviation of every row of x, computed in ``dtype``."""
    return model_of(
        helper.make_node("Cast", ["x"], ["c"], to=dtype),
        helper.make_node("Mul", ["c", "c"], ["s"]),
        helper.make_node("ReduceMean", ["s"], ["m"], "mean", keepdims=0),
        helper.make_node("Sqrt", ["m"], ["d"], "root"),
        helper.make_node("Cast", ["d"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("Add", ["x", "f"], ["y"]),
    )


def test_norms_written_out_on_purpose_are_counted():
    model = onnx.shape_inference.infer_shapes(written_out_norm(TensorProto.FLOAT))
    check_graph(model, {"ReduceMean": 1, "Sqrt": 1}, traced_batch=None)
    with pytest.raises(GraphError, match="1 ReduceMean nodes instead of 2: part of a decomposed"):
        check_graph(model, {"ReduceMean": 2, "Sqrt": 1}, traced_batch=None)


@pytest.mark.parametrize("dtype", [TensorProto.FLOAT16, TensorProto.BFLOAT16])
def test_statistics_in_half_precision_are_refused(dtype):
    model = onnx.shape_inference.infer_shapes(written_out_norm(dtype))
    name = TensorProto.DataType.Name(dtype)
    with pytest.raises(GraphError, match=f"mean takes {name} instead of FLOAT; root takes {name}"):
        check_graph(model, {"ReduceMean": 1, "Sqrt": 1}, traced_batch=None)


def test_grid_sample_is_refused():
    node = helper.make_node("GridSample", ["x", "g"], ["y"])
    model = model_of(node, g=np.zeros((1, 2, 2, 2), np.float32))
    model.graph.input[0].type.tensor_type.shape.dim.add().dim_value = 4
    model.graph.input[0].type.tensor_type.shape.dim.add().dim_value = 4
    with pytest.raises(GraphError, match="GridSample"):
        check_graph(model, {}, traced_batch=None)


def test_functions_are_refused():
    model = model_of(helper.make_node("Twice", ["x"], ["y"], domain=DOMAIN))
    body = [helper.make_node("Add", ["a", "a"], ["b"])]
    opsets = [helper.make_opsetid("", 20)]
    model.functions.append(helper.make_function(DOMAIN, "Twice", ["a"], ["b"], body, opsets))
    with pytest.raises(GraphError, match="functions"):
        check_graph(model, {}, traced_batch=None)
