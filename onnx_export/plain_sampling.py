"""Deformable attention in plain ONNX: bilinear sampling by Gather, never GridSample.

TensorRT is reported to miscompile GridSample (NVIDIA/TensorRT #4813) and to take its opset-20 mode
for nearest (#4646). Here every level and every corner of the bilinear cell is gathered and summed
in turn, so that the largest intermediate tensor is one row for each sample of one level.

Letters: B batch, S tokens, Q queries, M heads, D channels of a head, L levels, P points.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import NamedTuple

import numpy as np
import onnx_graphsurgeon as gs
from onnx import TensorProto

from onnx_export.passes import onnx_type
from onnx_export.writer import NodeWriter, Operand

INT32 = TensorProto.INT32
ONE = np.int32(1)


class Level(NamedTuple):
    """What the sampling has to know of a level."""

    start: Operand
    """() int32: how many tokens lie before it."""
    width: Operand
    """() int32."""
    last: Operand
    """(2,) float32: x and y of the last cell."""


class PlainSampling(NodeWriter):
    """Writes what :func:`codetr.deform_attn.ms_deform_attn` computes as ONNX nodes."""

    def __init__(self, graph: gs.Graph, node: gs.Node) -> None:
        super().__init__(graph, node)
        self.value, self.sampling, self.reference, level_sizes, self.valid_sizes = node.inputs
        self.heads = node.attrs["num_heads"]
        self.points = node.attrs["num_points"]
        self.channels = self.value.shape[2]
        self.levels, self.tokens = self.measure(level_sizes)

    def write(self) -> None:
        """As any writer: (B, Q, C) from the node's inputs."""
        offsets, weights = self.offsets_and_weights()
        rows = self.emit("Reshape", self.value, [-1, self.channels // self.heads])  # (B*S*M, D)
        total = None
        for index, level in enumerate(self.levels):
            valid = self.valid_size(index)
            first_row = self.first_rows(level)
            level_weights = self.emit("Gather", weights, np.int64(index), axis=3)
            positions = self.positions(self.emit("Gather", offsets, np.int64(index), axis=3), valid)
            for cell, share in self.corners(positions, valid, level):
                row = self.emit("Add", self.emit("Mul", cell, np.int32(self.heads)), first_row)
                sampled = self.as_float(self.emit("Gather", rows, row, axis=0))  # (B, Q, M, P, D)
                weight = self.emit("Mul", share, level_weights)  # (B, Q, M, P)
                weighted = self.emit("Mul", sampled, self.emit("Unsqueeze", weight, [4]))
                term = self.emit("ReduceSum", weighted, [3], keepdims=0)  # (B, Q, M, D)
                total = term if total is None else self.emit("Add", total, term)
        merged = self.emit("Reshape", total, [0, 0, self.channels])  # (B, Q, M*D)
        self.append("Cast", [merged], self.output, to=onnx_type(self.value))

    def measure(self, level_sizes: gs.Tensor) -> tuple[list[Level], Operand]:
        """The levels, and () int32 how many tokens they have; numbers if the sizes are constant."""
        sizes = level_sizes.values if isinstance(level_sizes, gs.Constant) else level_sizes
        levels = []
        start: Operand = np.int32(0)
        for index in range(level_sizes.shape[0]):
            size = self.computed("Gather", sizes, np.int64(index))  # (2,)
            height, width = (self.computed("Gather", size, np.int64(axis)) for axis in (0, 1))
            last = self.computed("Sub", self.computed("Gather", size, np.array([1, 0])), ONE)
            levels.append(Level(start, width, self.as_float(last)))
            start = self.computed("Add", start, self.computed("Mul", height, width))
        return levels, start

    def offsets_and_weights(self) -> tuple[gs.Variable, gs.Variable]:
        """Offsets (B, Q, M, L, P, 2) and softmax weights (B, Q, M, L, P), float32."""
        levels, points = len(self.levels), self.points
        samples = self.heads * levels * points
        sampling = self.as_float(self.sampling)
        offsets = self.emit("Slice", sampling, [0], [2 * samples], [2])
        logits = self.emit("Slice", sampling, [2 * samples], [3 * samples], [2])
        logits = self.emit("Reshape", logits, [0, 0, self.heads, levels * points])
        weights = self.emit("Softmax", logits, axis=3)
        weights = self.emit("Reshape", weights, [0, 0, self.heads, levels, points])
        return self.emit("Reshape", offsets, [0, 0, self.heads, levels, points, 2]), weights

    def valid_size(self, level: int) -> gs.Variable:
        """(B or 1, 1, 1, 1, 2) float32: width and height of a level's valid region."""
        size = self.emit("Gather", self.valid_sizes, np.int64(level), axis=1)
        size = self.as_float(self.emit("Gather", size, np.array([1, 0]), axis=1))
        return self.emit("Unsqueeze", size, [1, 2, 3])

    def positions(self, offsets: gs.Variable, valid: gs.Variable) -> gs.Variable:
        """(B, Q, M, P, 2) x, y of the samples in cells; the first cell's centre is 0."""
        centre = self.emit("Slice", self.reference, [0], [2], [2])
        centre = self.emit("Mul", self.emit("Unsqueeze", centre, [2, 3]), valid)
        if self.reference.shape[2] == 4:
            size = self.emit("Slice", self.reference, [2], [4], [2])
            size = self.emit("Mul", self.emit("Unsqueeze", size, [2, 3]), valid)
            offsets = self.emit(
                "Mul", offsets, self.emit("Mul", size, np.float32(0.5 / self.points))
            )
        return self.emit("Sub", self.emit("Add", centre, offsets), np.float32(0.5))

    def corners(
        self, positions: gs.Variable, valid: gs.Variable, level: Level
    ) -> Iterator[tuple[gs.Variable, gs.Variable]]:
        """The four cells around each position: index in the level and bilinear share, (B, Q, M, P).

        A cell outside the valid region keeps an index inside the level and a share of zero.
        """
        first = self.emit("Floor", positions)
        fraction = self.emit("Sub", positions, first)
        sides = [
            self.side(first, self.emit("Sub", np.float32(1), fraction), valid, level),
            self.side(self.emit("Add", first, np.float32(1)), fraction, valid, level),
        ]
        for (_, y, _, share_y), (x, _, share_x, _) in product(sides, sides):
            cell = self.emit("Add", self.emit("Mul", y, level.width), x)
            yield cell, self.emit("Mul", share_x, share_y)

    def side(
        self,
        cell: gs.Variable,
        share: gs.Variable,
        valid: gs.Variable,
        level: Level,
    ) -> tuple[gs.Variable, ...]:
        """x and y (int32) of ``cell`` (B, Q, M, P, 2) inside the level, and their shares."""
        inside = self.emit(
            "And",
            self.emit("GreaterOrEqual", cell, np.float32(0)),
            self.emit("Less", cell, valid),
        )
        share = self.emit("Where", inside, share, np.float32(0))
        cell = self.emit("Max", self.emit("Min", cell, level.last), np.float32(0))
        cell = self.emit("Cast", cell, to=INT32)
        x, y = (self.emit("Gather", cell, np.int64(axis), axis=4) for axis in (0, 1))
        share_x, share_y = (self.emit("Gather", share, np.int64(axis), axis=4) for axis in (0, 1))
        return x, y, share_x, share_y

    def first_rows(self, level: Level) -> Operand:
        """(B or 1, 1, M, 1) int32: rows of the heads of a level's first token in each picture."""
        heads = np.arange(self.heads, dtype=np.int32).reshape(1, 1, -1, 1)
        first = self.computed("Mul", level.start, np.int32(self.heads))
        rows = self.computed("Add", first, heads)
        batch = self.value.shape[0]
        if batch == 1:
            return rows
        count = self.emit("Gather", self.emit("Shape", self.value), np.int64(0))
        count = self.emit("Cast", count, to=INT32)
        pictures = self.emit("Range", np.int32(0), count, np.int32(1))  # (B,)
        step = self.computed("Mul", self.tokens, np.int32(self.heads))
        pictures = self.emit("Mul", self.emit("Unsqueeze", pictures, [1, 2, 3]), step)
        return self.emit("Add", pictures, rows)
