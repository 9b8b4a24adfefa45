"""Layer norms and their casts as single nodes, for the plugin: rows are read and written once."""

from __future__ import annotations

import re

import numpy as np
import onnx_graphsurgeon as gs
from onnx import TensorProto

from codetr.group_norm import EPSILON
from onnx_export.kernels import has_layer_norm_kernel
from onnx_export.node import (
    ADD_LAYER_NORM_OP_TYPE,
    DOMAIN,
    LAYER_NORM_OP_TYPE,
    MERGE_LAYER_NORM_OP_TYPE,
    PLUGIN_ATTRIBUTES,
)
from onnx_export.passes import become, onnx_type
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


_BEHIND_FFN = re.compile(rf"encoder\.layers\.\d+\.norm2/{LAYER_NORM_OP_TYPE}")


def let_norms_read_more(graph: gs.Graph) -> str:
    """Let norms of Swin's patch merging gather the neighbours, and those behind the encoder's FFN
    add the residual stream: what TensorRT does in passes of their own. After ``fuse_layer_norms``.
    """
    merging = adding = 0
    for norm in [node for node in graph.nodes if node.op == LAYER_NORM_OP_TYPE]:
        if merged := _merged_map(norm):
            norm.inputs[0] = merged
            become(norm, MERGE_LAYER_NORM_OP_TYPE)
            merging += 1
        elif _BEHIND_FFN.fullmatch(norm.name) and (summands := _summands(norm)):
            norm.inputs[0] = summands[0]
            norm.inputs.append(summands[1])
            become(norm, ADD_LAYER_NORM_OP_TYPE)
            adding += 1
        norm.outputs[0].name = norm.name
    graph.cleanup().toposort()
    return f"{merging} layer norms merge neighbours, {adding} add"


def _merged_map(norm: gs.Node) -> gs.Tensor | None:
    """(B, H, W, C) that the norm reads as (B, H/2, W/2, 4C)."""
    x = norm.inputs[0]
    for op in ("Reshape", "Transpose", "Reshape"):
        producer = _only_producer(x)
        if producer is None or producer.op != op:
            return None
        if op == "Transpose" and producer.attrs["perm"] != [0, 1, 3, 2, 4, 5]:
            return None
        x = producer.inputs[0]
    channels = norm.inputs[1].shape[0]
    return x if len(x.shape) == 4 and 4 * x.shape[3] == channels else None


def _summands(norm: gs.Node) -> list[gs.Tensor] | None:
    add = _only_producer(norm.inputs[0])
    if add is None or add.op != "Add" or add.inputs[0].shape != add.inputs[1].shape:
        return None
    return list(add.inputs)


def _only_producer(tensor: gs.Tensor) -> gs.Node | None:
    """What gives the tensor, if it does so for one reader alone."""
    return tensor.inputs[0] if tensor.inputs and len(tensor.outputs) == 1 else None


class PlainLayerNorm(NodeWriter):
    """Writes such a node as ONNX nodes."""

    def __init__(self, graph: gs.Graph, node: gs.Node) -> None:
        super().__init__(graph, node)
        self.x, self.weight, self.bias, *self.added = node.inputs

    def write(self) -> None:
        """As any writer."""
        parameters = {"axis": -1, "epsilon": EPSILON, "stash_type": 1}
        rows = self.as_float(self.rows())
        y = self.emit(_OP_TYPE, rows, self.weight, self.bias, **parameters)
        y.dtype, y.shape = np.float32, self.output.shape  # or this stage could not be put out
        self.append("Cast", [y], self.output, to=onnx_type(self.x))

    def rows(self) -> gs.Variable:
        """What is normalised, in the shape of the output."""
        return self.x


class PlainAddLayerNorm(PlainLayerNorm):
    """The same of one that adds a tensor."""

    def rows(self) -> gs.Variable:
        """``x + added``."""
        return self.emit("Add", self.x, *self.added)


class PlainMergeLayerNorm(PlainLayerNorm):
    """The same of one that merges neighbours."""

    def rows(self) -> gs.Variable:
        """(B, H, W, C) -> (B, H/2, W/2, 4C)."""
        axes, steps, end = [1, 2], [2, 2], 2 * [np.iinfo(np.int64).max]
        starts = [[row, column] for row in (0, 1) for column in (0, 1)]
        parts = [self.emit("Slice", self.x, start, end, axes, steps) for start in starts]
        return self.emit("Concat", *parts, axis=3)
