"""Writes out one custom node as ONNX nodes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs
from onnx import TensorProto


class NodeWriter(ABC):
    """Appends nodes that are named after the custom node they stand for."""

    def __init__(self, graph: gs.Graph, node: gs.Node) -> None:
        self.graph = graph
        self.name = node.name
        self.output = node.outputs[0]
        self.count = 0

    @abstractmethod
    def write(self) -> None:
        """Append the nodes to the graph; the last one gives the custom node's output."""

    def as_float(self, x: gs.Variable) -> gs.Variable:
        """``x`` in float32."""
        return self.emit("Cast", x, to=TensorProto.FLOAT)

    def emit(self, op: str, *inputs: Any, **attributes: Any) -> gs.Variable:
        """Append one node; numbers and arrays among the inputs become constants."""
        output = gs.Variable(f"{self.name}/{op}_{self.count}")
        self.append(op, list(inputs), output, **attributes)
        return output

    def append(self, op: str, inputs: list[Any], output: gs.Variable, **attributes: Any) -> None:
        """As ``emit``, into a given output."""
        self.count += 1
        name = f"{self.name}/{op}_{self.count}"
        tensors = [
            x if isinstance(x, gs.Tensor) else gs.Constant(f"{name}/input_{index}", np.asarray(x))
            for index, x in enumerate(inputs)
        ]
        self.graph.nodes.append(gs.Node(op, name, attributes, tensors, [output]))
