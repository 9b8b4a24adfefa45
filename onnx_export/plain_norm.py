"""Group normalisation in plain ONNX.

Letters: B batch, H and W the map, C channels, G groups.
"""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from codetr.group_norm import EPSILON
from onnx_export.passes import onnx_type
from onnx_export.writer import NodeWriter


class PlainNorm(NodeWriter):
    """Writes what :func:`codetr.group_norm.group_norm` computes as ONNX nodes, step by step."""

    def __init__(self, graph: gs.Graph, node: gs.Node) -> None:
        super().__init__(graph, node)
        self.x, self.weight, self.bias = node.inputs
        self.channels, self.groups = self.x.shape[3], node.attrs["num_groups"]

    def write(self) -> None:
        """As any writer: (B, H, W, C) from the node's inputs."""
        x = self.as_float(self.x)
        row_mean = self.emit("ReduceMean", x, [2])  # (B, H, 1, C)
        row_variance = self.emit("ReduceMean", self.squared_distance(x, row_mean), [2])
        mean = self.group_mean(row_mean)
        spread = self.squared_distance(row_mean, mean)
        variance = self.group_mean(self.emit("Add", row_variance, spread))
        deviation = self.emit("Sqrt", self.emit("Add", variance, np.float32(EPSILON)))
        scale = self.emit("Mul", self.emit("Reciprocal", deviation), self.weight)
        scaled = self.emit("Mul", self.emit("Sub", x, mean), scale)
        y = self.emit("Add", scaled, self.bias)
        y.dtype, y.shape = np.float32, self.x.shape  # or this stage could not be put out
        self.append("Cast", [y], self.output, to=onnx_type(self.x))

    def squared_distance(self, x: gs.Variable, mean: gs.Variable) -> gs.Variable:
        """(B, H, W or 1, C)."""
        distance = self.emit("Sub", x, mean)
        return self.emit("Mul", distance, distance)

    def group_mean(self, x: gs.Variable) -> gs.Variable:
        """(B, H, 1, C) -> (B, 1, 1, C)."""
        size = self.channels // self.groups
        grouped = self.emit("Reshape", x, [0, 0, 1, self.groups, size])
        mean = self.emit("ReduceMean", grouped, [1, 4])  # (B, 1, 1, G, 1)
        mean = self.emit("Expand", mean, [1, 1, 1, 1, size])
        return self.emit("Reshape", mean, [0, 1, 1, self.channels])
