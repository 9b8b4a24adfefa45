"""The bias of ``qkv``, added by the plugin's window attention instead of by a pass over the map."""

from __future__ import annotations

import onnx_graphsurgeon as gs

from onnx_export.node import WINDOW_OP_TYPE


def leave_bias_to_windows(graph: gs.Graph) -> str:
    """Let each node of window attention read the product of ``qkv`` and add the bias itself."""
    nodes = [node for node in graph.nodes if node.op == WINDOW_OP_TYPE]
    for node in nodes:
        qkv, bias, _ = node.inputs
        (add,) = qkv.inputs
        (node.inputs[0],) = (tensor for tensor in add.inputs if tensor is not bias)
        node.attrs["add_bias"] = 1
    graph.cleanup().toposort()
    return f"{len(nodes)} biases left to window attention"
