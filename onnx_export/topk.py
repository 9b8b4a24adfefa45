"""Long top-k in parts: exact, and fast where a runtime ranks every row with one processor.

TensorRT takes 4 ns for each element of a row, one after the other (an H200, TensorRT 10.6: 0.82 ms
for the best 900 of 204,600 tokens), but ranks many rows at once. The best k of the best k of each
part are the best k of all; equal values keep their order.
"""

from __future__ import annotations

from itertools import count
from math import ceil
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs

from onnx_export.passes import Pass

LONG_ROW = 8192
"""Elements: rows longer than this are ranked in parts.

At 608x608 no row was longer once parts were ranked, and engines put out the same bits each time; at
1280x1920 one of 9,900 was left, and they did not. Whether that row is why is not known.
"""
PART = 4096
"""Elements of a part, at the most."""
PARTS = "_parts"
"""Ends the module path of the nodes that are added."""


def known_rows(longest: int) -> Pass:
    """A pass for ``split_topk``: rows whose length is known at run time become as long as they get.

    Args:
        longest: elements that such a row has at most; short rows stay what they are.
    """
    whole_parts = ceil(longest / PART) * PART

    def pad_rows(graph: gs.Graph) -> str:
        """Fill them up with what is never picked."""
        unknown = [node for node in graph.nodes if node.op == "TopK" and _is_unknown(node)]
        nodes = unknown if longest > LONG_ROW else []
        for node in nodes:
            _pad(graph, node, whole_parts)
        graph.toposort()
        return f"{len(nodes)} rows padded to {whole_parts}"

    return pad_rows


def split_topk(graph: gs.Graph) -> str:
    """Rank the parts of long rows first, then the best of all parts."""
    splits = 0
    for node in [node for node in graph.nodes if node.op == "TopK"]:
        for depth in count(1):
            if not _is_long(node):
                break
            _split(graph, node, f"{node.name}_{depth}{PARTS}")
            splits += 1
    graph.toposort()
    return f"{splits} long rows split"


def _is_long(node: gs.Node) -> bool:
    """Whether a TopK of the largest of (B, n) has a long row and few picks."""
    source, picked = node.inputs
    return (
        _ranks_rows(node)
        and isinstance(source.shape[1], int)
        and source.shape[1] > LONG_ROW
        and int(picked.values.item()) * 2 <= PART  # or the parts would hardly be fewer
    )


def _is_unknown(node: gs.Node) -> bool:
    return _ranks_rows(node) and not isinstance(node.inputs[0].shape[1], int)


def _ranks_rows(node: gs.Node) -> bool:
    """Whether a TopK is of the largest of (B, n), and picks a number that is known."""
    source, picked = node.inputs
    return (
        node.attrs.get("axis", -1) in (1, -1)
        and node.attrs.get("largest", 1) == 1
        and isinstance(picked, gs.Constant)
        and source.shape is not None
        and len(source.shape) == 2
    )


def _pad(graph: gs.Graph, node: gs.Node, length: int) -> None:
    """(B, n) -> (B, length)."""
    source = node.inputs[0]
    step = _Step(graph, f"{node.name}_row", source.dtype)
    (shape,) = step("Shape", [source], [(2,)], np.int64)
    (known,) = step("Gather", [shape, np.array([1])], [(1,)], np.int64)
    (missing,) = step("Sub", [np.array([length]), known], [(1,)], np.int64)
    (pads,) = step("Concat", [np.zeros(3, np.int64), missing], [(4,)], np.int64, axis=0)
    inputs = [source, pads, np.array(-np.inf, source.dtype)]
    (node.inputs[0],) = step("Pad", inputs, [(source.shape[0], length)])


def _split(graph: gs.Graph, node: gs.Node, name: str) -> None:
    """(B, n) in parts; the node itself goes on to rank the best of all parts (B, parts * k)."""
    source, picked = node.inputs
    batch, length = source.shape
    picks = int(picked.values.item())
    parts = ceil(length / PART)
    part = ceil(length / parts)
    step = _Step(graph, name, source.dtype)

    if parts * part > length:
        pads = np.array([0, 0, 0, parts * part - length], np.int64)
        lowest = np.array(-np.inf, source.dtype)
        (source,) = step("Pad", [source, pads, lowest], [(batch, parts * part)])
    (rows,) = step("Reshape", [source, np.array([0, parts, part])], [(batch, parts, part)])
    best, within = step("TopK", [rows, picked], 2 * [(batch, parts, picks)], axis=-1)
    within.dtype = np.int64
    starts = np.arange(parts)[:, None] * part  # (parts, 1)
    (indices,) = step("Add", [within, starts], [within.shape], np.int64)
    flat = np.array([0, parts * picks])
    (values,) = step("Reshape", [best, flat], [(batch, parts * picks)])
    (candidates,) = step("Reshape", [indices, flat], [values.shape], np.int64)

    chosen = node.outputs[1]
    among = gs.Variable(f"{step.name}/among", np.int64, chosen.shape)
    node.inputs[0], node.outputs[1] = values, among
    graph.nodes.append(
        gs.Node("GatherElements", f"{step.name}/chosen", {"axis": 1}, [candidates, among], [chosen])
    )


class _Step:
    """Appends nodes to a graph."""

    def __init__(self, graph: gs.Graph, name: str, dtype: Any) -> None:
        self.graph, self.name, self.dtype = graph, name, dtype
        self.count = 0

    def __call__(
        self,
        op: str,
        inputs: list[Any],
        shapes: list[tuple[Any, ...]],
        dtype: Any = None,
        **attributes: int,
    ) -> list[gs.Variable]:
        """One node; arrays among the inputs become constants. Returns its outputs."""
        self.count += 1
        name = f"{self.name}/{op}_{self.count}"
        tensors = [
            x if isinstance(x, gs.Tensor) else gs.Constant(f"{name}:in{i}", x)
            for i, x in enumerate(inputs)
        ]
        outputs = [
            gs.Variable(f"{name}:{i}", dtype or self.dtype, shape) for i, shape in enumerate(shapes)
        ]
        self.graph.nodes.append(gs.Node(op, name, attributes, tensors, outputs))
        return outputs
