"""PyTorch model to an ONNX graph with the custom nodes, by ``torch.onnx.export(dynamo=True)``."""

from __future__ import annotations

import ast
import logging
import warnings
from collections import Counter
from collections.abc import Mapping
from typing import Any, Literal

import onnx
import onnx_ir
import torch

from codetr.model import CoDino
from onnx_export.node import register_schemas, translations
from onnx_export.precision import Precision, TypedModel

SIZE_STEP = 32
"""Heights and widths of a graph of any size are multiples: four of its levels halve evenly."""
TRACED_BATCH = 10037
"""Batch that a dynamic graph is traced with: a number that shows where it leaks into a shape.

So large that no model has it of itself, as its number of classes for one.
"""
TRACED_STEPS = 10007, 10009
"""The same for height and width, in steps; primes, so that they show in multiples too."""
OPSET = 20
"""The first with Gelu, and the last that TensorRT 10.6 knows."""
OPSET_BF16 = 22
"""The first whose Conv takes bfloat16."""


def trace(
    model: CoDino,
    *,
    size: tuple[int, int] | Literal["dynamic"],
    batch: int | Literal["dynamic"],
    precision: Precision,
    mask: bool,
) -> onnx.ModelProto:
    """Trace and translate.

    Args:
        model: in eval mode; converted to ``precision`` in place.
        size: height and width of the padded input; dynamic: any multiples of ``SIZE_STEP``.
        batch: pictures at a time.
        precision: type of products and convolutions.
        mask: whether the graph has the input ``img_masks``.

    Returns:
        A graph whose nodes are named by module path and operation.
    """
    register_schemas()
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # torchvision is not missed
    pictures = TRACED_BATCH if batch == "dynamic" else batch
    height, width = size if size != "dynamic" else (SIZE_STEP * n for n in TRACED_STEPS)
    # Only shapes are looked at: one number, repeated, takes no memory at any size.
    inputs = {"batch_inputs": torch.empty(1).expand(pictures, 3, height, width)}
    if mask:
        inputs["img_masks"] = torch.empty(1).expand(pictures, height, width)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own deprecations
        program = torch.onnx.export(
            TypedModel(model, precision).eval(),
            kwargs=inputs,
            dynamo=True,
            verbose=False,
            opset_version=OPSET,
            input_names=list(inputs),
            output_names=["boxes", "scores", "labels"],
            dynamic_shapes=_dynamic_axes(inputs, batch, size),
            custom_translation_table=translations(),
        )
    assert program is not None  # None only without dynamo
    if precision == "bf16":
        # Opsets 21 and 22 only add types to the operators used here.
        program.model.opset_imports[""] = OPSET_BF16
    _name_nodes(program.model)
    if size == "dynamic":
        _name_sizes(program.model)
    return program.model_proto


def _dynamic_axes(
    inputs: Mapping[str, torch.Tensor],
    batch: int | Literal["dynamic"],
    size: tuple[int, int] | Literal["dynamic"],
) -> dict[str, dict[int, Any]] | None:
    """For ``torch.onnx.export(dynamic_shapes=…)``: which axes of the inputs are not fixed."""
    dim = torch.export.Dim
    pictures = {0: dim("batch")} if batch == "dynamic" else {}
    sides = (SIZE_STEP * dim("rows"), SIZE_STEP * dim("columns")) if size == "dynamic" else ()
    if not pictures and not sides:
        return None
    return {
        name: pictures | dict(enumerate(sides, start=tensor.dim() - 2))
        for name, tensor in inputs.items()
    }


def _name_sizes(model: onnx_ir.Model) -> None:
    """Height and width by their names, which the exporter gives as "32*rows" and "32*columns"."""
    for value in model.graph.inputs:
        assert value.shape is not None
        value.shape = onnx_ir.Shape([*value.shape[:-2], "height", "width"])


def _name_nodes(model: onnx_ir.Model) -> None:
    """Name nodes "encoder/layers.0/self_attn/MatMul" by the module they come from; drop traces."""
    used: Counter[str] = Counter()
    for node in model.graph:
        scopes = ast.literal_eval(node.metadata_props.get("pkg.torch.onnx.name_scopes", "['']"))
        # Scopes end with the operation; the module before it, without the wrapper's own name.
        module = scopes[-2] if len(scopes) > 1 else ""
        path = module.removeprefix("model").lstrip(".") or "detector"
        name = f"{path}/{node.op_type}"
        used[name] += 1
        node.name = name if used[name] == 1 else f"{name}_{used[name]}"
        node.metadata_props.clear()  # source paths of the exporting machine, among others
    for name, value in list(model.graph.initializers.items()):
        if name.startswith("model."):
            value.name = name.removeprefix("model.")
