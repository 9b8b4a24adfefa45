"""Layer norms and their casts as single nodes, for the plugin: rows are read and written once."""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs
from onnx import TensorProto

from codetr.group_norm import EPSILON
from onnx_export.kernels import has_layer_norm_kernel
from onnx_export.node import DOMAIN, LAYER_NORM_OP_TYPE, PLUGIN_ATTRIBUTES
from onnx_export.passes import onnx_type
from onnx_export.writer import NodeWriter

_OP_TYPE = "LayerNormalization"


def fuse_layer_norms(graph: gs.Graph) -> str:
    """Replace the norms of half precision, which take and give it by casts.

    What is in float32 on either side stays, and what the plugin has no kernel for. After constants
    are folded, because nobody computes the nodes in advance.
    """
    norms = [node for node in graph.nodes if node.op == _OP_TYPE and _is_of_half_precision(node)]
    for norm in norms:
        _fuse(graph, norm)
    graph.cleanup().toposort()
    return f"{len(norms)} layer norms fused"


def _is_of_half_precision(norm: gs.Node) -> bool:
    neighbours = [*norm.inputs[0].inputs, *norm.outputs[0].outputs]
    if [node.op for node in neighbours] != ["Cast", "Cast"]:
        return False
    before, after = neighbours
    x = before.inputs[0]
    return (
        TensorProto.FLOAT != onnx_type(x) == after.attrs["to"]
        and has_layer_norm_kernel(rank=len(x.shape), channels=norm.inputs[1].shape[0])
        and abs(norm.attrs["epsilon"] - EPSILON) < 1e-3 * EPSILON  # it is stored as float32
    )


def _fuse(graph: gs.Graph, norm: gs.Node) -> None:
    source, weight, bias = norm.inputs
    inputs = [source.inputs[0].inputs[0], weight, bias]
    cast = norm.outputs[0].outputs[0]
    name, outputs = norm.name.replace(_OP_TYPE, LAYER_NORM_OP_TYPE), list(cast.outputs)
    cast.outputs.clear()
    outputs[0].name = name
    attributes = dict(PLUGIN_ATTRIBUTES)
    node = gs.Node(LAYER_NORM_OP_TYPE, name, attributes, inputs, outputs, domain=DOMAIN)
    graph.nodes.append(node)


class PlainLayerNorm(NodeWriter):
    """Writes such a node as ONNX nodes."""

    def __init__(self, graph: gs.Graph, node: gs.Node) -> None:
        super().__init__(graph, node)
        self.x, self.weight, self.bias = node.inputs

    def write(self) -> None:
        """As any writer: the shape of the node's first input."""
        parameters = {"axis": -1, "epsilon": EPSILON, "stash_type": 1}
        y = self.emit(_OP_TYPE, self.as_float(self.x), self.weight, self.bias, **parameters)
        y.dtype, y.shape = np.float32, self.x.shape  # or this stage could not be put out
        self.append("Cast", [y], self.output, to=onnx_type(self.x))
