"""Window attention in plain ONNX.

Letters: B batch, H and W the map padded to whole windows, C channels, M heads, D = C / M,
N tokens of a window.
"""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from codetr.window_attn import shift_regions
from onnx_export.passes import onnx_type
from onnx_export.writer import NodeWriter

END = np.iinfo(np.int64).max
"""Of a slice that goes on to the end of its axis."""


class PlainWindows(NodeWriter):
    """Writes what :func:`codetr.window_attn.window_attention` computes as ONNX nodes."""

    def __init__(self, graph: gs.Graph, node: gs.Node) -> None:
        super().__init__(graph, node)
        self.qkv, self.padding, self.bias = node.inputs
        self.size, self.shift = node.attrs["window_size"], node.attrs["shift"]
        self.channels, self.heads = self.qkv.shape[3] // 3, self.bias.shape[0]
        self.add_bias = node.attrs["add_bias"]
        self.measure()

    def measure(self) -> None:
        """Sizes of the map, and of the padded map in windows and in tokens."""
        _, self.height, self.width, _ = self.qkv.shape
        self.rows, self.columns = -(-self.height // self.size), -(-self.width // self.size)
        self.whole = self.rows * self.size, self.columns * self.size

    def write(self) -> None:
        """As any writer: (B, H, W, C) from the node's inputs."""
        query, key, value = self.queries_keys_values()
        scale = self.typed((self.channels // self.heads) ** -0.5)
        # The scale sits on the query and the logits stay 4-D: TensorRT fuses that pattern.
        query = self.emit("Mul", query, scale)
        logits = self.emit("MatMul", query, self.emit("Transpose", key, perm=[0, 1, 3, 2]))
        logits = self.emit("Add", logits, self.bias)  # (B*windows, M, N, N)
        if self.shift:
            logits = self.emit("Add", logits, self.mask())
        attended = self.emit("MatMul", self.emit("Softmax", logits, axis=-1), value)
        self.merge(self.emit("Transpose", attended, perm=[0, 2, 1, 3]))

    def queries_keys_values(self) -> list[gs.Variable]:
        """Each (B*windows, M, N, D)."""
        x = self.roll(self.pad(), self.shift)
        cut = self.shape(-1, self.rows, self.size, self.columns, self.size, 3 * self.channels)
        x = self.emit("Transpose", self.emit("Reshape", x, cut), perm=[0, 1, 3, 2, 4, 5])
        heads = [3, self.heads, self.channels // self.heads]
        x = self.emit("Reshape", x, [-1, self.size**2, *heads])
        x = self.emit("Transpose", x, perm=[2, 0, 3, 1, 4])  # (3, B*windows, M, N, D)
        return [self.emit("Gather", x, np.int64(index), axis=0) for index in range(3)]

    def merge(self, windows: gs.Variable) -> None:
        """(B*windows, N, M, D) -> the output (B, H, W, C), cropped to what is no padding."""
        cut = self.shape(-1, self.rows, self.columns, self.size, self.size, self.channels)
        x = self.emit("Transpose", self.emit("Reshape", windows, cut), perm=[0, 1, 3, 2, 4, 5])
        whole = self.shape(-1, *self.whole, self.channels)
        x = self.roll(self.emit("Reshape", x, whole), -self.shift)
        end = self.shape(self.height, self.width)
        self.append("Slice", [x, [0, 0], end, [1, 2]], self.output)

    def pad(self) -> gs.Variable:
        """(B, H, W, 3C): ``padding`` where the map has no tokens."""
        height, width = self.whole
        if (height, width) == (self.height, self.width):
            return self.biased()
        below, right = height - self.height, width - self.width
        inside = np.zeros((height, width, 1), bool)
        inside[: self.height, : self.width] = True
        padded = self.emit("Pad", self.biased(), [0, 0, 0, 0, 0, below, right, 0])
        return self.emit("Where", inside, padded, self.padding)

    def biased(self) -> gs.Variable:
        """(B, H, W, 3C): queries, keys and values with their bias."""
        return self.emit("Add", self.qkv, self.padding) if self.add_bias else self.qkv

    def roll(self, x: gs.Variable, steps: int) -> gs.Variable:
        """Both axes of the map by ``steps`` to the left and up."""
        for axis in (1, 2) if steps else ():
            parts = [self.emit("Slice", x, *ends, [axis]) for ends in _split(steps)]
            x = self.emit("Concat", *parts, axis=axis)
        return x

    def mask(self) -> gs.Variable:
        """(B*windows, 1, N, N): -100 between tokens that only the roll brought together.

        All blocks of a stage share one.
        """
        name = "shift_mask/{1}x{2}".format(*self.qkv.shape)
        for node in self.graph.nodes:
            if node.name == name:
                return node.outputs[0]
        mask = gs.Variable(name)
        self.graph.nodes.append(gs.Node("Identity", name, {}, [self.new_mask()], [mask]))
        return mask

    def new_mask(self) -> gs.Variable:
        """(B*windows, 1, N, N)."""
        apart = self.emit("Equal", *self.regions())
        mask = self.emit("Where", apart, self.typed(0), self.typed(-100))
        batch = self.qkv.shape[0]
        if batch == 1:
            return mask
        # Not a Shape from start to end: graphsurgeon would fold it to the shape from end to end.
        pictures = self.emit("Gather", self.emit("Shape", self.qkv), [0])
        return self.emit("Tile", mask, self.emit("Concat", pictures, [1, 1, 1], axis=0))

    def regions(self) -> tuple[gs.Variable | np.ndarray, ...]:
        """(windows, 1, N, 1) and (windows, 1, 1, N): see ``shift_regions``."""
        regions = shift_regions(self.height, self.width, self.size, None).numpy()
        return regions[:, None, :, None], regions[:, None, None, :]

    def typed(self, number: float) -> gs.Variable:
        """A number in the type of the map."""
        return self.emit("Cast", np.float32(number), to=onnx_type(self.qkv))


def _split(steps: int) -> tuple[tuple[list[int], list[int]], ...]:
    """Start and end of the two slices that change places."""
    return ([steps], [END]), ([0], [steps])
