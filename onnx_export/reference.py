"""Custom nodes in plain ONNX: all of them, or those that the plugin has no kernel for."""

from __future__ import annotations

from collections.abc import Callable

import onnx_graphsurgeon as gs
from onnx import TensorProto

from onnx_export.fp8_nodes import FP8_OP_TYPES, with_half_precision
from onnx_export.layer_norm import (
    PlainAddLayerNorm,
    PlainLayerNorm,
    PlainMergeLayerNorm,
)
from onnx_export.linear import PlainLinear
from onnx_export.node import (
    ADD_LAYER_NORM_OP_TYPE,
    LAYER_NORM_OP_TYPE,
    LINEAR_ADD_OP_TYPE,
    LINEAR_OP_TYPE,
    MERGE_LAYER_NORM_OP_TYPE,
    NORM_OP_TYPE,
    OP_TYPE,
    WINDOW_OP_TYPE,
    has_window_kernel,
)
from onnx_export.passes import onnx_type
from onnx_export.plain_norm import PlainNorm
from onnx_export.plain_sampling import PlainSampling
from onnx_export.plain_windows import PlainWindows
from onnx_export.plain_windows_any_size import PlainWindowsOfAnySize
from onnx_export.writer import NodeWriter

_HALF_PRECISIONS = (TensorProto.FLOAT16, TensorProto.BFLOAT16)


def write_out_custom_nodes(graph: gs.Graph) -> str:
    """Replace every custom node."""
    return _write_out(graph, lambda _: True)


def write_out_windows_without_kernel(graph: gs.Graph) -> str:
    """Replace the nodes of window attention that the plugin cannot compute."""
    return _write_out(graph, lambda node: node.op == WINDOW_OP_TYPE and not _has_kernel(node))


def _write_out(graph: gs.Graph, wanted: Callable[[gs.Node], bool]) -> str:
    writers: dict[str, Callable[[gs.Graph, gs.Node], NodeWriter]] = {
        OP_TYPE: PlainSampling,
        WINDOW_OP_TYPE: _plain_windows,
        NORM_OP_TYPE: PlainNorm,
        LINEAR_OP_TYPE: PlainLinear,
        LINEAR_ADD_OP_TYPE: PlainLinear,
        LAYER_NORM_OP_TYPE: PlainLayerNorm,
        ADD_LAYER_NORM_OP_TYPE: PlainAddLayerNorm,
        MERGE_LAYER_NORM_OP_TYPE: PlainMergeLayerNorm,
    }
    ours = writers.keys() | FP8_OP_TYPES
    nodes = [node for node in graph.nodes if node.op in ours and wanted(node)]
    for node in nodes:
        plain = with_half_precision(graph, node) if node.op in FP8_OP_TYPES else node
        writers[plain.op](graph, plain).write()
        plain.outputs.clear()
    graph.import_domains = None  # found anew from the nodes
    graph.cleanup().toposort()
    return f"{len(nodes)} custom nodes written out"


def _plain_windows(graph: gs.Graph, node: gs.Node) -> PlainWindows:
    is_known = all(isinstance(size, int) for size in node.inputs[0].shape[1:3])
    return (PlainWindows if is_known else PlainWindowsOfAnySize)(graph, node)


def _has_kernel(node: gs.Node) -> bool:
    qkv, _, bias = node.inputs
    return has_window_kernel(
        half=onnx_type(qkv) in _HALF_PRECISIONS,
        window_size=node.attrs["window_size"],
        head_channels=qkv.shape[3] // (3 * bias.shape[0]),
    )
