"""PyTorch model to an ONNX graph with the custom nodes, by ``torch.onnx.export(dynamo=True)``."""

from __future__ import annotations

import ast
import logging
import warnings
from collections import Counter
from typing import Literal

import onnx
import onnx_ir
import torch

from codetr.model import CoDino
from onnx_export.node import register_schemas, translations
from onnx_export.precision import Precision, TypedModel

TRACED_BATCH = 67
"""Batch that a dynamic graph is traced with: a number that shows where it leaks into a shape."""
OPSET = 20
"""The first with Gelu, and the last that TensorRT 10.6 knows."""
OPSET_BF16 = 22
"""The first whose Conv takes bfloat16."""


def trace(
    model: CoDino,
    *,
    size: tuple[int, int],
    batch: int | Literal["dynamic"],
    precision: Precision,
    mask: bool,
) -> onnx.ModelProto:
    """Trace and translate.

    Args:
        model: in eval mode; converted to ``precision`` in place.
        size: height and width of the padded input.
        batch: pictures at a time.
        precision: type of products and convolutions.
        mask: whether the graph has the input ``img_masks``.

    Returns:
        A graph whose nodes are named by module path and operation.
    """
    register_schemas()
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # torchvision is not missed
    pictures = TRACED_BATCH if batch == "dynamic" else batch
    # Only shapes are looked at: empty tensors of any size take no memory.
    inputs = {"batch_inputs": torch.empty(pictures, 3, *size)}
    if mask:
        inputs["img_masks"] = torch.empty(pictures, *size)
    axes = {0: torch.export.Dim("batch")} if batch == "dynamic" else None
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
            dynamic_shapes=None if axes is None else dict.fromkeys(inputs, axes),
            custom_translation_table=translations(),
        )
    assert program is not None  # None only without dynamo
    if precision == "bf16":
        # Opsets 21 and 22 only add types to the operators used here.
        program.model.opset_imports[""] = OPSET_BF16
    _name_nodes(program.model)
    return program.model_proto


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
