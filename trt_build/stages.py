"""Makes graphs show what is inside them: stages as outputs, chosen queries as an input.

A swapped pair of queries moves every later tensor by whole rows, so stages after the top-k can
only be compared if both sides decode the same queries. The reference shows which it chose; the
other side is told them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
from onnx import TensorProto, helper

from runtime.errors import UserError
from trt_build.onnx_file import exporter_metadata, load_onnx


@dataclass(frozen=True, slots=True)
class ShownGraph:
    """A graph with its stages as outputs."""

    model: onnx.ModelProto
    outputs: dict[str, str]
    """Stage ("backbone 0" … "decoder 5") to output, float32, in the order of computation."""
    topk: str
    """(B, Q) int64, the tokens that become queries: an output, or an input if forced."""


def show_stages(path: Path, *, force_topk: bool) -> ShownGraph:
    """Read an exported ONNX and let it put out its stages.

    Args:
        path: the file.
        force_topk: make the chosen tokens an input; otherwise they become one more output.

    Raises:
        UserError: the file cannot be read, or does not name its stages.
    """
    model = load_onnx(path)
    graph = model.graph
    known = {value.name: value for value in graph.value_info}
    try:
        entry = exporter_metadata(path, model)["stages"]
        tensors = {stage: known[name] for stage, name in _named(entry)}
        topk = known[entry["topk"]]
    except (KeyError, TypeError) as error:
        raise UserError(
            f"{path} does not name its stages, or has lost them ({error}): export it again, or "
            "give --no-stages"
        ) from error
    if force_topk:
        _make_input(graph, topk)
    else:
        graph.output.append(topk)
    outputs = {stage: make_output(graph, tensor) for stage, tensor in tensors.items()}
    return ShownGraph(model, outputs, entry["topk"])


def _named(entry: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Stage and tensor, of the metadata entry ``stages``."""
    for kind in ("backbone", "neck", "memory", "decoder"):
        names = entry[kind]
        for index, name in enumerate(names):
            yield (kind if len(names) == 1 else f"{kind} {index}"), name


def _make_input(graph: onnx.GraphProto, value: onnx.ValueInfoProto) -> None:
    """Let the readers of a tensor read an input of its name."""
    for node in graph.node:
        for index, name in enumerate(node.output):
            if name == value.name:
                node.output[index] = f"{name}/not read"
    graph.input.append(value)
    graph.value_info.remove(value)  # only what is inside may be listed there


def make_output(graph: onnx.GraphProto, value: onnx.ValueInfoProto) -> str:
    """Put a tensor out, unless it is; halves in float32, for numpy knows no bfloat16.

    Args:
        graph: gets the output.
        value: name, type and shape of the tensor.

    Returns:
        The output's name.
    """
    half = value.type.tensor_type.elem_type in (TensorProto.FLOAT16, TensorProto.BFLOAT16)
    output = f"{value.name}/float32" if half else value.name
    if any(shown.name == output for shown in graph.output):
        return output
    shown = onnx.ValueInfoProto()
    shown.CopyFrom(value)
    if half:
        cast = helper.make_node("Cast", [value.name], [output], output, to=TensorProto.FLOAT)
        graph.node.append(cast)
        shown.name, shown.type.tensor_type.elem_type = output, TensorProto.FLOAT
    graph.output.append(shown)
    return output
