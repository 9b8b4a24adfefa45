"""Linear layers of Swin as single nodes, for the plugin: product, bias and GELU in one kernel."""

from __future__ import annotations

import re

import onnx_graphsurgeon as gs

from onnx_export.node import DOMAIN, LINEAR_OP_TYPE, PLUGIN_ATTRIBUTES
from onnx_export.writer import NodeWriter

_LAYERS = re.compile(r"(backbone\.stages\.\d+\.blocks\.\d+\.(?:attn\.proj|fc1|fc2))/MatMul")


def fuse_linear_layers(graph: gs.Graph) -> str:
    """Replace the products of ``proj``, ``fc1`` and ``fc2`` by nodes that add the bias too.

    The node of ``fc1`` applies GELU, if it is the form by tanh.
    """
    products = [node for node in graph.nodes if _LAYERS.fullmatch(node.name)]
    for product in products:
        _fuse(graph, product)
    graph.cleanup().toposort()
    return f"{len(products)} linear layers fused"


def _fuse(graph: gs.Graph, product: gs.Node) -> None:
    (add,) = product.outputs[0].outputs
    (bias,) = (tensor for tensor in add.inputs if tensor is not product.outputs[0])
    (reader, *others) = add.outputs[0].outputs
    gelu = reader.op == "Gelu" and not others and reader.attrs.get("approximate") == "tanh"
    path = product.name.removesuffix("/MatMul")
    last = reader if gelu else add
    attributes = {"gelu": int(gelu), **PLUGIN_ATTRIBUTES}
    inputs = [product.inputs[0], _transposed(graph, product.inputs[1], f"{path}/Transpose"), bias]
    name, outputs = f"{path}/{LINEAR_OP_TYPE}", list(last.outputs)
    last.outputs.clear()
    graph.nodes.append(gs.Node(LINEAR_OP_TYPE, name, attributes, inputs, outputs, domain=DOMAIN))


def _transposed(graph: gs.Graph, weight: gs.Tensor, name: str) -> gs.Tensor:
    """(N, K) of a weight (K, N): what it is the transposition of, or a transposition of it."""
    producer = weight.inputs[0] if weight.inputs else None
    if producer is not None and producer.op == "Transpose":
        return producer.inputs[0]
    # As a node, because numpy has no bfloat16; where it can be folded it will be.
    transposed = gs.Variable(name, weight.dtype, weight.shape[::-1])
    graph.nodes.append(gs.Node("Transpose", name, {"perm": [1, 0]}, [weight], [transposed]))
    return transposed


class PlainLinear(NodeWriter):
    """Writes such a node as ONNX nodes."""

    def __init__(self, graph: gs.Graph, node: gs.Node) -> None:
        super().__init__(graph, node)
        self.x, self.weight, self.bias = node.inputs
        self.gelu = node.attrs["gelu"]

    def write(self) -> None:
        """As any writer: (B, H, W, N) from the node's inputs."""
        product = self.emit("MatMul", self.x, self.emit("Transpose", self.weight, perm=[1, 0]))
        if not self.gelu:
            self.append("Add", [product, self.bias], self.output)
            return
        total = self.emit("Add", product, self.bias)
        self.append("Gelu", [total], self.output, approximate="tanh")
