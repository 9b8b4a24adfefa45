"""Writes out one custom node as ONNX nodes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import onnx_graphsurgeon as gs
from onnx import TensorProto

Numbers = np.generic | np.ndarray
Operand: TypeAlias = gs.Variable | Numbers
"""A tensor of the graph, or numbers that become a constant."""

_OPERATORS: dict[str, Callable[..., Numbers]] = {
    "Add": np.add,
    "Sub": np.subtract,
    "Mul": np.multiply,
    "Gather": lambda x, indices: np.take(x, indices, axis=0),
}


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

    def as_float(self, x: Operand) -> Operand:
        """``x`` in float32."""
        if isinstance(x, gs.Variable):
            return self.emit("Cast", x, to=TensorProto.FLOAT)
        return x.astype(np.float32)

    def shape(self, *sizes: int | gs.Variable) -> list[int] | gs.Variable:
        """Numbers, and (1,) int64 tensors for sizes that are known at run time, in one."""
        numbers = [size for size in sizes if isinstance(size, int)]
        if len(numbers) == len(sizes):
            return numbers
        parts = [[size] if isinstance(size, int) else size for size in sizes]
        return self.emit("Concat", *parts, axis=0)

    def computed(self, op: str, *inputs: Operand) -> Operand:
        """As ``emit`` for a few operators; numbers from numbers, without a node."""
        if any(isinstance(x, gs.Variable) for x in inputs):
            return self.emit(op, *inputs)
        return _OPERATORS[op](*inputs)

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
