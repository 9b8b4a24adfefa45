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

LONG_ROW = 8192
"""Elements: rows longer than this are ranked in parts.

At 608x608 no row was longer once parts were ranked, and engines put out the same bits each time; at
1280x1920 one of 9,900 was left, and they did not. Whether that row is why is not known.
"""
PART = 4096
"""Elements of a part, at the most."""
PARTS = "_parts"
"""Ends the module path of the nodes that are added."""


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
    """Whether a TopK of the largest of (B, n) has a long row and few picks.

    A row whose length is known at run time stays whole: parts of it may be shorter than the picks.
    """
    source, picked = node.inputs
    return (
        node.attrs.get("axis", -1) in (1, -1)
        and node.attrs.get("largest", 1) == 1
        and isinstance(picked, gs.Constant)
        and source.shape is not None
        and len(source.shape) == 2
        and isinstance(source.shape[1], int)
        and source.shape[1] > LONG_ROW
        and int(picked.values.item()) * 2 <= PART  # or the parts would hardly be fewer
    )


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
