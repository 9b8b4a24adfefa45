"""Linear layers as single nodes, for the plugin: one kernel with bias, residual and activation."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator

import onnx_graphsurgeon as gs
from torch import nn

from codetr.model import CoDino
from codetr.swin import PatchConv
from onnx_export.node import DOMAIN, LINEAR_ADD_OP_TYPE, LINEAR_OP_TYPE, PLUGIN_ATTRIBUTES
from onnx_export.passes import Pass
from onnx_export.precision import Precision, fp8_products
from onnx_export.writer import NodeWriter

_LAYERS = re.compile(
    r"backbone\.patch_embed\.projection|backbone\.stages\.\d+\.blocks\.\d+\.(attn\.proj|fc1|fc2)"
    r"|encoder\.layers\.\d+\.self_attn\.\w+"
)
"""Those with many rows; the decoder's few take TensorRT no time to speak of. The encoder's FFN is
faster in TensorRT: 0.6 of 22.6 ms at 1280x1920 on an H200."""
_ADDING = ("attn.proj", "output_proj", "fc2")
"""Those whose sum goes into a residual stream."""
_ACTIVATIONS = {"Gelu": 1, "Relu": 2}
"""By ONNX operator: the node's attribute."""


def linear_layers(model: CoDino, precision: Precision) -> list[str]:
    """Module paths of the layers that become nodes; with fp8 all that are quantised do."""
    quantised = fp8_products(model) if precision == "fp8" else ()
    return [
        path
        for path, module in model.named_modules()
        if isinstance(module, (nn.Linear, PatchConv))
        and (_LAYERS.fullmatch(path) or path in quantised)
    ]


def count_linear(layers: Collection[str]) -> dict[str, int]:
    """How many nodes of each kind such layers become."""
    adding = sum(path.endswith(_ADDING) for path in layers)
    return {LINEAR_OP_TYPE: len(layers) - adding, LINEAR_ADD_OP_TYPE: adding}


def fuse_linear(layers: Collection[str]) -> Pass:
    """Make the pass that replaces these layers' products by single nodes.

    They add the bias and the residual stream, where the sum goes into one, and apply ReLU, or GELU
    in the form by tanh.
    """

    def fuse_linear_layers(graph: gs.Graph) -> str:
        names = {f"{path}/MatMul" for path in layers}
        products = [node for node in graph.nodes if node.name in names]
        for product in products:
            _fuse(graph, product)
        graph.cleanup().toposort()
        return f"{len(products)} linear layers fused"

    return fuse_linear_layers


def _fuse(graph: gs.Graph, product: gs.Node) -> None:
    (last,) = product.outputs[0].outputs
    bias = _other_input(last, product.outputs[0])
    path = product.name.removesuffix("/MatMul")
    inputs = [
        product.inputs[0],
        _transposed(graph, product.inputs[1], f"{path}.weight/Transpose"),
        bias,
    ]
    op_type = LINEAR_OP_TYPE
    if path.endswith(_ADDING):
        sums = last.outputs[0]
        (last,) = sums.outputs
        inputs.append(_other_input(last, sums))
        op_type = LINEAR_ADD_OP_TYPE
    activation = 0
    reader, *others = last.outputs[0].outputs
    if not others and _has_kernel(reader):
        activation, last = _ACTIVATIONS[reader.op], reader
    attributes = {"activation": activation, **PLUGIN_ATTRIBUTES}
    outputs = list(last.outputs)
    last.outputs.clear()
    name = f"{path}/{op_type}"
    graph.nodes.append(gs.Node(op_type, name, attributes, inputs, outputs, domain=DOMAIN))


def _other_input(add: gs.Node, tensor: gs.Tensor) -> gs.Tensor:
    (other,) = (each for each in add.inputs if each is not tensor)
    return other


def _has_kernel(node: gs.Node) -> bool:
    """Whether it is an activation that a product can apply."""
    return node.op == "Relu" or (node.op == "Gelu" and node.attrs.get("approximate") == "tanh")


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
        self.x, self.weight, *self.added = node.inputs
        self.activation = node.attrs["activation"]

    def write(self) -> None:
        """As any writer: (..., N) from the node's inputs."""
        x, (*steps, last) = self.x, self._steps()
        for op, others, attributes in steps:
            x = self.emit(op, x, *others, **attributes)
        op, others, attributes = last
        self.append(op, [x, *others], self.output, **attributes)

    def _steps(self) -> Iterator[tuple[str, list[gs.Tensor], dict[str, str]]]:
        """Op type, what it takes beside the result of the step before, and attributes."""
        yield "MatMul", [self.emit("Transpose", self.weight, perm=[1, 0])], {}
        for each in self.added:
            yield "Add", [each], {}
        if self.activation == _ACTIVATIONS["Gelu"]:
            yield "Gelu", [], {"approximate": "tanh"}
        elif self.activation == _ACTIVATIONS["Relu"]:
            yield "Relu", [], {}
