"""Clean-up of an exported graph, by onnx-graphsurgeon. Every pass says what it changed."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import onnx_graphsurgeon as gs
import onnxruntime
from onnx import TensorProto
from onnx_graphsurgeon.exporters.onnx_exporter import dtype_to_onnx
from onnx_graphsurgeon.logger import G_LOGGER

Pass = Callable[[gs.Graph], str]

FOLD_LIMIT = 4 << 20
"""Bytes: a constant larger than this stays computed, because runtimes fold it as they load."""

_LOSSLESS = {
    (TensorProto.FLOAT16, TensorProto.FLOAT),
    (TensorProto.BFLOAT16, TensorProto.FLOAT),
    (TensorProto.INT32, TensorProto.INT64),
}


def fold_constants(graph: gs.Graph) -> str:
    """Compute what depends on constants only."""
    onnxruntime.set_default_logger_severity(3)  # both warn of every constant they leave
    G_LOGGER.severity = G_LOGGER.ERROR
    before = len(graph.nodes)
    graph.fold_constants(size_threshold=FOLD_LIMIT, should_exclude_node=_touches_bfloat16)
    graph.cleanup().toposort()
    return f"constants folded, {before} -> {len(graph.nodes)} nodes"


def remove_dead_ends(graph: gs.Graph) -> str:
    """Drop nodes and tensors that no output needs."""
    before = len(graph.nodes)
    graph.cleanup().toposort()
    return f"{before - len(graph.nodes)} dead ends removed"


def remove_cast_pairs(graph: gs.Graph) -> str:
    """Drop casts to the type a tensor has, and casts to a wider type and back."""
    removed = 0
    for node in [node for node in graph.nodes if node.op == "Cast"]:
        source = node.inputs[0]
        producer = source.inputs[0] if source.inputs else None
        if producer is not None and producer.op == "Cast" and _is_lossless(producer):
            source = producer.inputs[0]
        if onnx_type(source) == node.attrs["to"] and node.outputs[0] not in graph.outputs:
            bypass(node, source)
            removed += 1
    graph.cleanup().toposort()
    return f"{removed} casts removed"


def name_tensors(graph: gs.Graph) -> str:
    """Name every tensor after the node that gives it: module path and operation."""
    kept = {id(tensor) for tensor in graph.inputs + graph.outputs}
    renamed = 0
    for node in graph.nodes:
        for index, tensor in enumerate(node.outputs):
            if id(tensor) not in kept:
                tensor.name = node.name if index == 0 else f"{node.name}:{index}"
                renamed += 1
    return f"{renamed} tensors named"


CLEAN_UP: tuple[Pass, ...] = (fold_constants, remove_cast_pairs, remove_dead_ends, name_tensors)


def run_passes(graph: gs.Graph, passes: Iterable[Pass], report: Callable[[str], None]) -> None:
    """Run the passes in order and report what each changed."""
    for graph_pass in passes:
        report(f"{graph_pass.__name__}: {graph_pass(graph)}")


def onnx_type(tensor: gs.Tensor) -> int | None:
    """ONNX element type of a tensor; None where nobody inferred it."""
    return None if tensor.dtype is None else dtype_to_onnx(tensor.dtype)


def _touches_bfloat16(node: gs.Node) -> bool:
    """ONNX Runtime, which computes the constants, has next to no bfloat16 on CPUs."""
    return any(onnx_type(tensor) == TensorProto.BFLOAT16 for tensor in node.inputs + node.outputs)


def _is_lossless(cast: gs.Node) -> bool:
    return (onnx_type(cast.inputs[0]), cast.attrs["to"]) in _LOSSLESS


def bypass(node: gs.Node, source: gs.Tensor) -> None:
    """Let the consumers of the node's last output read ``source``; the node loses that output."""
    bypassed = node.outputs.pop()
    for consumer in list(bypassed.outputs):
        for index, tensor in enumerate(consumer.inputs):
            if tensor is bypassed:
                consumer.inputs[index] = source


def become(node: gs.Node, op_type: str) -> None:
    """Make another operator of a node that is named after its own."""
    node.name = node.name.removesuffix(node.op) + op_type
    node.op = op_type
