"""Quantises products to fp8 (E4M3) by QuantizeLinear and DequantizeLinear, which TensorRT fuses.

One scale for each tensor, of weights too: TensorRT takes one per output channel as well, but its
fp8 products know scalar scales only, and others would run in float16. Scales are float16: a
strongly typed quantisation takes the type of its tensor.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_graphsurgeon as gs
from onnx import TensorProto, helper

from onnx_export.calibration import E4M3_MAX
from onnx_export.checks import GraphError
from onnx_export.passes import Pass

E4M3 = helper.tensor_dtype_to_np_dtype(TensorProto.FLOAT8E4M3FN)
_SMALLEST_SCALE = 2.0**-14
"""Smallest normal float16. Values that would take a smaller one lose nothing: E4M3 reaches down to
a 230,000th of its largest value."""


def quantise_by(scales: Mapping[str, float]) -> Pass:
    """A pass that quantises linear layers.

    Args:
        scales: of their inputs, by module path.
    """

    def quantise_products(graph: gs.Graph) -> str:
        """Put Q and DQ before both inputs of every product."""
        nodes = {node.name: node for node in graph.nodes}
        for path, scale in scales.items():
            product = nodes.get(f"{path}/MatMul")
            if product is None:
                raise GraphError(f"no product of {path} in the graph")
            _quantise_input(graph, product, path, scale)
            _quantise_weights(graph, product, path)
        graph.cleanup().toposort()
        return f"{len(scales)} products quantised to fp8"

    return quantise_products


def _quantise_input(graph: gs.Graph, product: gs.Node, path: str, scale: float) -> None:
    """Right before the product, where TensorRT is sure to see the pattern."""
    parameters = scale_and_type(f"{path}.input", storable(scale))
    x = quantise(graph, f"{path}/QuantizeLinear", product.inputs[0], parameters)
    product.inputs[0] = dequantise(graph, f"{path}/DequantizeLinear", x, parameters)


def _quantise_weights(graph: gs.Graph, product: gs.Node, path: str) -> None:
    """Store weights (K, N) in fp8, half as large."""
    stored, scale = quantised(constant_values(product.inputs[1]))
    constant = gs.Constant(f"{path}.weight_fp8", stored)
    parameters = scale_and_type(f"{path}.weight", scale)
    product.inputs[1] = dequantise(graph, f"{path}/DequantizeLinear_2", constant, parameters)


def quantise(
    graph: gs.Graph, name: str, x: gs.Tensor, parameters: list[gs.Constant]
) -> gs.Variable:
    """Append the node that quantises ``x``; its output is named after it."""
    output = gs.Variable(name, E4M3, x.shape)
    graph.nodes.append(gs.Node("QuantizeLinear", name, {}, [x, *parameters], [output]))
    return output


def dequantise(
    graph: gs.Graph, name: str, x: gs.Tensor, parameters: list[gs.Constant]
) -> gs.Variable:
    """Append the node that makes float16 of it; its output is named after it."""
    output = gs.Variable(name, np.float16, x.shape)
    graph.nodes.append(gs.Node("DequantizeLinear", name, {}, [x, *parameters], [output]))
    return output


def quantised(weights: np.ndarray) -> tuple[np.ndarray, np.float16]:
    """Weights of any shape in fp8, and their scale."""
    weights = weights.astype(np.float32)
    scale = storable(np.abs(weights).max() / E4M3_MAX)
    # A scale that float16 rounded down would make the largest weight a NaN.
    return np.clip(weights / np.float32(scale), -E4M3_MAX, E4M3_MAX).astype(E4M3), scale


def storable(scale: float) -> np.float16:
    """The scale as it is stored."""
    return np.float16(max(scale, _SMALLEST_SCALE))


def scale_and_type(name: str, scale: np.float16) -> list[gs.Constant]:
    """What both nodes take beside the tensor: the scale, and a zero point, which tells the type."""
    return [
        gs.Constant(f"{name}_scale", np.array(scale)),
        gs.Constant(f"{name}_zero_point", np.zeros((), E4M3)),
    ]


def constant_values(weights: gs.Tensor) -> np.ndarray:
    """Of a constant; large ones are left as a transposition."""
    if isinstance(weights, gs.Constant):
        return np.asarray(weights.values)
    producer = weights.inputs[0] if weights.inputs else None
    if producer is None or producer.op != "Transpose":
        raise GraphError(f"{weights.name} is not constant")
    return np.transpose(constant_values(producer.inputs[0]), producer.attrs.get("perm"))
