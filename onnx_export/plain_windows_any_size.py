"""Window attention in plain ONNX for maps whose size is known at run time.

Letters: B batch, H and W the map padded to whole windows, C channels, N tokens of a window.
"""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs
from onnx import TensorProto

from onnx_export.plain_windows import PlainWindows


class PlainWindowsOfAnySize(PlainWindows):
    """As ``PlainWindows``; sizes are (1,) int64 tensors instead of numbers."""

    def measure(self) -> None:
        """As there; nobody knows whether there is padding, so there always may be some."""
        shape = self.emit("Shape", self.qkv)
        self.height, self.width = (self.emit("Gather", shape, [axis]) for axis in (1, 2))
        self.rows, self.columns = (
            self.emit("Div", self.emit("Add", length, [self.size - 1]), [self.size])
            for length in (self.height, self.width)
        )
        self.whole = tuple(self.emit("Mul", n, [self.size]) for n in (self.rows, self.columns))

    def pad(self) -> gs.Variable:
        """(B, H, W, 3C): ``padding`` where the map has no tokens."""
        lengths = self.height, self.width
        below, right = map(lambda whole, n: self.emit("Sub", whole, n), self.whole, lengths)
        padded = self.emit("Pad", self.biased(), self.shape(0, 0, 0, 0, 0, below, right, 0))
        rows, columns = (
            self.emit("Less", self.positions(whole), length)
            for whole, length in zip(self.whole, lengths, strict=True)
        )
        inside = self.emit(
            "And", self.emit("Unsqueeze", rows, [1, 2]), self.emit("Unsqueeze", columns, [0, 2])
        )  # (H, W, 1)
        return self.emit("Where", inside, padded, self.padding)

    def regions(self) -> tuple[gs.Variable | np.ndarray, ...]:
        """(windows, 1, N, 1) and (windows, 1, 1, N): see ``codetr.window_attn.shift_regions``."""
        rows, columns = (self.strips(whole) for whole in self.whole)
        rows = self.emit("Unsqueeze", self.emit("Mul", rows, np.int32(3)), [1])
        cut = self.shape(self.rows, self.size, self.columns, self.size)
        regions = self.emit("Reshape", self.emit("Add", rows, columns), cut)
        regions = self.emit("Transpose", regions, perm=[0, 2, 1, 3])
        regions = self.emit("Reshape", regions, [-1, self.size**2])
        return self.emit("Unsqueeze", regions, [1, 3]), self.emit("Unsqueeze", regions, [1, 2])

    def strips(self, whole: gs.Variable) -> gs.Variable:
        """(H or W,) int32: 0, from the last window on 1, from the shift on 2."""
        positions = self.positions(whole)
        last, rolled = (
            self.emit("GreaterOrEqual", positions, self.emit("Sub", whole, [steps]))
            for steps in (self.size, self.size // 2)
        )
        as_numbers = (self.emit("Cast", x, to=TensorProto.INT32) for x in (last, rolled))
        return self.emit("Add", *as_numbers)

    def positions(self, length: gs.Variable) -> gs.Variable:
        """(length,) int64: 0, 1, …"""
        return self.emit("Range", np.int64(0), self.emit("Squeeze", length, [0]), np.int64(1))
