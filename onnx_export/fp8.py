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
    source = product.inputs[0]
    name = f"{path}/QuantizeLinear"
    quantised = gs.Variable(name, E4M3, source.shape)
    parameters = _parameters(f"{path}.input", _storable(scale))
    graph.nodes.append(gs.Node("QuantizeLinear", name, {}, [source, *parameters], [quantised]))
    product.inputs[0] = _dequantise(graph, f"{path}/DequantizeLinear", quantised, parameters)


def _quantise_weights(graph: gs.Graph, product: gs.Node, path: str) -> None:
    """Store weights (K, N) in fp8, half as large."""
    weights = _values(product.inputs[1]).astype(np.float32)
    scale = _storable(np.abs(weights).max() / E4M3_MAX)
    # A scale that float16 rounded down would make the largest weight a NaN.
    stored = np.clip(weights / np.float32(scale), -E4M3_MAX, E4M3_MAX).astype(E4M3)
    constant = gs.Constant(f"{path}.weight_fp8", stored)
    parameters = _parameters(f"{path}.weight", scale)
    product.inputs[1] = _dequantise(graph, f"{path}/DequantizeLinear_2", constant, parameters)


def _dequantise(
    graph: gs.Graph, name: str, quantised: gs.Tensor, parameters: list[gs.Constant]
) -> gs.Variable:
    output = gs.Variable(name, np.float16, quantised.shape)
    graph.nodes.append(gs.Node("DequantizeLinear", name, {}, [quantised, *parameters], [output]))
    return output


def _storable(scale: float) -> np.float16:
    return np.float16(max(scale, _SMALLEST_SCALE))


def _parameters(name: str, scale: np.float16) -> list[gs.Constant]:
    """Scale and zero point, which tells the type."""
    return [
        gs.Constant(f"{name}_scale", np.array(scale)),
        gs.Constant(f"{name}_zero_point", np.zeros((), E4M3)),
    ]


def _values(weights: gs.Tensor) -> np.ndarray:
    """(K, N) of a constant; large ones are left as a transposition of (N, K)."""
    if isinstance(weights, gs.Constant):
        return np.asarray(weights.values)
    producer = weights.inputs[0] if weights.inputs else None
    if producer is None or producer.op != "Transpose":
        raise GraphError(f"{weights.name} is not constant")
    return np.transpose(_values(producer.inputs[0]), producer.attrs.get("perm"))
