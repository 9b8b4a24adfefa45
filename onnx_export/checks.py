"""The test every exported graph has to pass before it is written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping

import onnx
from onnx import TensorProto, helper, numpy_helper

from onnx_export.node import DOMAIN, LINEAR_ADD_OP_TYPE, LINEAR_OP_TYPE

MIN_OPSET = 17
"""First opset with LayerNormalization."""

FORBIDDEN_OPS = {
    "GridSample": "TensorRT miscompiles it (NVIDIA/TensorRT #4813, #4646)",
    "InstanceNormalization": "what a GroupNorm becomes that is not codetr.layers.GroupNorm",
    # Norms that are written out on purpose are counted instead, and checked to be in float32.
    "Pow": "part of a decomposed norm",
    "ReduceMean": "part of a decomposed norm",
    "Sqrt": "part of a decomposed norm",
}
"""Why a graph may have these only in the numbers that are asked for."""

SHAPE_LENGTH = 8
"""A list of at most so many integers is taken for a shape; TensorRT has no tensor of more axes."""


class GraphError(Exception):
    """The exported graph breaks the contract: a bug of the exporter, not of its user."""


def check_graph(
    model: onnx.ModelProto,
    counts: Mapping[str, int],
    traced_batch: int | None,
    traced_steps: Iterable[int] = (),
) -> None:
    """Refuse a graph that does not keep the contract.

    Args:
        model: with its weights inside.
        counts: how often an op type has to occur.
        traced_batch: batch that a dynamic graph was traced with, which must appear nowhere; None
            for a fixed batch.
        traced_steps: primes; a graph of any size was traced with multiples, which must appear
            nowhere. Empty for a fixed size.

    Raises:
        GraphError: naming everything that is wrong.
    """
    onnx.checker.check_model(model)
    problems = [*_structure(model), *_counts(model.graph, counts)]
    problems += [*_float64(model.graph), *_mixed_types(model.graph), *_half_norms(model.graph)]
    if traced_batch is not None:
        problems += _baked(model.graph, "batch", lambda size: size == traced_batch)
    problems += _baked(model.graph, "size", lambda size: _is_multiple(size, traced_steps))
    if problems:
        raise GraphError("; ".join(problems))


def _structure(model: onnx.ModelProto) -> Iterator[str]:
    opset = next(o.version for o in model.opset_import if not o.domain)
    if opset < MIN_OPSET:
        yield f"opset {opset}, at least {MIN_OPSET} is needed"
    if model.functions:
        yield f"functions {[f.name for f in model.functions]}: TensorRT 10.6 takes their bodies"
    if foreign := {n.domain for n in model.graph.node} - {"", DOMAIN}:
        yield f"nodes of other domains: {sorted(foreign)}"


def _counts(graph: onnx.GraphProto, wanted: Mapping[str, int]) -> Iterator[str]:
    found = Counter(node.op_type for node in graph.node)
    for op, count in (dict.fromkeys(FORBIDDEN_OPS, 0) | dict(wanted)).items():
        if found[op] != count:
            reason = f": {FORBIDDEN_OPS[op]}" if op in FORBIDDEN_OPS else ""
            yield f"{found[op]} {op} nodes instead of {count}{reason}"


def _float64(graph: onnx.GraphProto) -> Iterator[str]:
    types = {helper.get_node_attr_value(n, "to") for n in graph.node if n.op_type == "Cast"}
    types |= {tensor.data_type for tensor in graph.initializer}
    types |= {value.type.tensor_type.elem_type for value in graph.value_info}
    if TensorProto.DOUBLE in types:
        yield "float64 tensors"


def _mixed_types(graph: onnx.GraphProto) -> Iterator[str]:
    """Products of two types, which a strongly typed engine refuses."""
    types = _types(graph)
    for node in graph.node:
        if node.op_type in ("Conv", "MatMul", LINEAR_OP_TYPE, LINEAR_ADD_OP_TYPE):
            found = {types[name] for name in node.input if name in types}
            if len(found) > 1:
                names = ", ".join(TensorProto.DataType.Name(t) for t in sorted(found))
                yield f"{node.name} multiplies {names}"


def _half_norms(graph: onnx.GraphProto) -> Iterator[str]:
    """Statistics of norms in half precision, where they overflow and cancel."""
    types = _types(graph)
    for node in graph.node:
        if node.op_type in ("LayerNormalization", "ReduceMean", "Sqrt"):
            found = types.get(node.input[0], TensorProto.FLOAT)
            if found != TensorProto.FLOAT:
                yield f"{node.name} takes {TensorProto.DataType.Name(found)} instead of FLOAT"


def _types(graph: onnx.GraphProto) -> dict[str, int]:
    """Element types of constants and of tensors inside."""
    types = {tensor.name: tensor.data_type for tensor in graph.initializer}
    return types | {value.name: value.type.tensor_type.elem_type for value in graph.value_info}


def _baked(graph: onnx.GraphProto, what: str, is_traced: Callable[[int], bool]) -> Iterator[str]:
    """Constants that look like shapes and hold what only the trace had."""
    for tensor in graph.initializer:
        if tensor.data_type in (TensorProto.INT32, TensorProto.INT64):
            is_shape = sum(tensor.dims) <= SHAPE_LENGTH
            sizes = numpy_helper.to_array(tensor).flatten().tolist() if is_shape else []
            for size in filter(is_traced, sizes):
                yield f"constant {tensor.name} holds the traced {what} {size}"


def _is_multiple(size: int, steps: Iterable[int]) -> bool:
    return size != 0 and any(size % step == 0 for step in steps)
