"""Linear layers as the plugin computes them in fp8 (E4M3), and what they read as fp8 at once.

A tensor that only such a layer reads is quantised by the kernel that makes it, so that it never
lies in memory as float16: by a layer norm, by window attention, or by the layer before. A layer
norm that others read too gives both. Any other tensor gets a QuantizeLinear, a pass of its own.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
import onnx_graphsurgeon as gs

from onnx_export.checks import GraphError
from onnx_export.fp8 import (
    E4M3,
    constant_values,
    dequantise,
    quantise,
    quantised,
    scale_and_type,
    storable,
)
from onnx_export.linear import count_linear
from onnx_export.node import (
    LAYER_NORM_AND_FP8_OP_TYPE,
    LAYER_NORM_OP_TYPE,
    LAYER_NORM_TO_FP8_OP_TYPE,
    LINEAR_ADD_FP8_OP_TYPE,
    LINEAR_ADD_OP_TYPE,
    LINEAR_FP8_OP_TYPE,
    LINEAR_FP8_TO_FP8_OP_TYPE,
    LINEAR_OP_TYPE,
    WINDOW_OP_TYPE,
    WINDOW_TO_FP8_OP_TYPE,
)
from onnx_export.passes import Pass, become, bypass

_MULTIPLYING = {
    LINEAR_OP_TYPE: LINEAR_FP8_OP_TYPE,
    LINEAR_ADD_OP_TYPE: LINEAR_ADD_FP8_OP_TYPE,
}
"""Nodes of half precision: what they are with factors of fp8."""

_GIVING = {
    LAYER_NORM_OP_TYPE: LAYER_NORM_TO_FP8_OP_TYPE,
    WINDOW_OP_TYPE: WINDOW_TO_FP8_OP_TYPE,
    LINEAR_FP8_OP_TYPE: LINEAR_FP8_TO_FP8_OP_TYPE,
}
"""Nodes: what they are with an output of fp8."""

FP8_OP_TYPES = frozenset({*_MULTIPLYING.values(), *_GIVING.values(), LAYER_NORM_AND_FP8_OP_TYPE})


def quantise_nodes_by(scales: Mapping[str, float]) -> Pass:
    """A pass that quantises nodes of linear layers, and what gives their inputs.

    Args:
        scales: of their inputs, by module path.
    """

    def quantise_linear_layers(graph: gs.Graph) -> str:
        nodes = {node.name: node for node in graph.nodes}
        layers = {path: _find(nodes, path) for path in scales}
        stored = {path: storable(scale) for path, scale in scales.items()}
        for path, layer in layers.items():
            _multiply_fp8(layer, path, stored[path])
        passes = sum(_give_fp8(graph, layers[path], path, stored[path]) for path in layers)
        graph.cleanup().toposort()
        return f"{len(layers)} linear layers in fp8, {passes} of them with a pass that quantises"

    return quantise_linear_layers


def count_fp8(products: Collection[str], counts: Mapping[str, int]) -> dict[str, int]:
    """How many nodes of each kind there are once these layers are quantised.

    Args:
        products: their module paths.
        counts: of the nodes before.
    """
    layers = count_linear(products)
    adding, alone = layers[LINEAR_ADD_OP_TYPE], layers[LINEAR_OP_TYPE]
    hidden = sum(path.endswith("fc2") for path in products)  # behind an fc1
    norms = sum(path.startswith("backbone.") and path.endswith(("qkv", "fc1")) for path in products)
    both = sum(path.startswith("encoder.") and path.endswith("fc1") for path in products)
    windows = counts[WINDOW_OP_TYPE]
    return {
        LINEAR_OP_TYPE: counts[LINEAR_OP_TYPE] - alone,
        LINEAR_FP8_OP_TYPE: alone - hidden,
        LINEAR_FP8_TO_FP8_OP_TYPE: hidden,
        LINEAR_ADD_OP_TYPE: counts[LINEAR_ADD_OP_TYPE] - adding,
        LINEAR_ADD_FP8_OP_TYPE: adding,
        LAYER_NORM_OP_TYPE: counts[LAYER_NORM_OP_TYPE] - norms - both,
        LAYER_NORM_TO_FP8_OP_TYPE: norms,
        LAYER_NORM_AND_FP8_OP_TYPE: both,
        WINDOW_OP_TYPE: 0,
        WINDOW_TO_FP8_OP_TYPE: windows,
        "QuantizeLinear": len(products) - hidden - norms - both - windows,
        "DequantizeLinear": 0,
    }


def _find(nodes: Mapping[str, gs.Node], path: str) -> gs.Node:
    for op_type in _MULTIPLYING:
        if node := nodes.get(f"{path}/{op_type}"):
            return node
    raise GraphError(f"no linear layer {path} in the graph")


def _multiply_fp8(layer: gs.Node, path: str, x_scale: np.float16) -> None:
    weight, weight_scale = quantised(constant_values(layer.inputs[1]))
    layer.inputs[1] = gs.Constant(f"{path}.weight_fp8", weight)
    layer.inputs.append(_number(f"{path}.input_scale", x_scale))
    layer.inputs.append(_number(f"{path}.weight_scale", weight_scale))
    become(layer, _MULTIPLYING[layer.op])


def _give_fp8(graph: gs.Graph, layer: gs.Node, path: str, scale: np.float16) -> bool:
    """Let the layer read fp8; whether that takes a pass of its own."""
    x = layer.inputs[0]
    producer = x.inputs[0] if x.inputs else None
    if producer is not None and producer.op == LAYER_NORM_OP_TYPE and len(x.outputs) > 1:
        become(producer, LAYER_NORM_AND_FP8_OP_TYPE)
        producer.inputs.append(_number(f"{path}.inverse_scale", 1 / np.float32(scale)))
        x.name = producer.name
        layer.inputs[0] = gs.Variable(f"{producer.name}/quantised", E4M3, x.shape)
        producer.outputs.append(layer.inputs[0])
        return False
    if producer is None or producer.op not in _GIVING or len(x.outputs) > 1:
        parameters = scale_and_type(f"{path}.input_half", scale)
        layer.inputs[0] = quantise(graph, f"{path}/QuantizeLinear", x, parameters)
        return True
    if producer.op == LAYER_NORM_OP_TYPE:
        for index in (1, 2):
            parameter = producer.inputs[index]
            values = constant_values(parameter) / np.float32(scale)
            producer.inputs[index] = gs.Constant(f"{parameter.name}_fp8", values)
    else:
        producer.inputs.append(_number(f"{path}.inverse_scale", 1 / np.float32(scale)))
    become(producer, _GIVING[producer.op])
    x.dtype, x.name = E4M3, producer.name
    return False


def _number(name: str, number: np.floating) -> gs.Constant:
    return gs.Constant(name, np.array([number], np.float32))


def with_half_precision(graph: gs.Graph, node: gs.Node) -> gs.Node:
    """Replace a node with fp8 by the same one of half precision, between DQ and Q.

    Returns:
        That node; the other's output of fp8 is the Q's.
    """
    inputs, outputs, op_type = list(node.inputs), list(node.outputs), node.op
    scale = np.float16(1)
    both = op_type == LAYER_NORM_AND_FP8_OP_TYPE
    if both or op_type in (WINDOW_TO_FP8_OP_TYPE, LINEAR_FP8_TO_FP8_OP_TYPE):
        scale = np.float16(1 / inputs.pop().values[0])
    if both or op_type in _GIVING.values():
        shape = node.outputs[0].shape
        half = outputs[0] if both else gs.Variable(f"{node.name}/output", np.float16, shape)
        outputs = [half]
        parameters = scale_and_type(f"{node.name}/output", scale)
        quantising = quantise(graph, f"{node.name}/QuantizeLinear", half, parameters)
        bypass(node, quantising)
        op_type = LAYER_NORM_OP_TYPE if both else _half(_GIVING, op_type)
    if op_type in _MULTIPLYING.values():
        weight_scale, x_scale = inputs.pop(), inputs.pop()
        for index, constant in enumerate((x_scale, weight_scale)):
            parameters = scale_and_type(constant.name, np.float16(constant.values[0]))
            name = f"{node.name}/DequantizeLinear_{index}"
            inputs[index] = dequantise(graph, name, inputs[index], parameters)
        op_type = _half(_MULTIPLYING, op_type)
    node.outputs.clear()
    half = gs.Node(op_type, node.name, dict(node.attrs), inputs, outputs, domain=node.domain)
    graph.nodes.append(half)
    return half


def _half(ops: Mapping[str, str], op_type: str) -> str:
    (found,) = (half for half, fp8 in ops.items() if fp8 == op_type)
    return found
