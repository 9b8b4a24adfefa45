"""The custom node: its ONNX schema and how the exporter writes it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import onnx
import onnxscript
import torch

DOMAIN = "codetr"
OP_TYPE = "CoDetrMSDeformAttn"
"""Also the name of the TensorRT plugin: parsers look a plugin up by the op type alone."""


def register_schema() -> None:
    """Tell ``onnx`` about the node, so that checker and shape inference know it. Idempotent."""
    if onnx.defs.has(OP_TYPE, DOMAIN):
        return
    define = onnx.defs.OpSchema
    floats = ["tensor(float)", "tensor(float16)", "tensor(bfloat16)"]
    parameters = (
        ("value", "T", "(B, S, C); levels one after the other, row-major"),
        ("sampling", "T", "(B, Q, M*L*P*3): offsets x, y, then attention logits, both raw"),
        ("reference", "tensor(float)", "(B or 1, Q, 2 or 4) relative to the valid region"),
        ("level_sizes", "tensor(int32)", "(L, 2) height and width of each level"),
        ("valid_sizes", "tensor(int32)", "(B or 1, L, 2) the part of each level that is picture"),
    )
    attributes = (
        ("num_heads", define.AttrType.INT),
        ("num_points", define.AttrType.INT),
        ("plugin_version", define.AttrType.STRING),
        ("plugin_namespace", define.AttrType.STRING),
    )
    schema = define(
        OP_TYPE,
        DOMAIN,
        1,
        doc="Fused multi-scale deformable attention; see codetr/deform_attn.py.",
        inputs=[define.FormalParameter(name, kind, doc) for name, kind, doc in parameters],
        outputs=[define.FormalParameter("output", "T", "(B, Q, C)")],
        type_constraints=[("T", floats, "type of values, offsets, logits and output")],
        attributes=[define.Attribute(name, kind, "", required=True) for name, kind in attributes],
    )
    schema.set_type_and_shape_inference_function(_infer_output)
    onnx.defs.register_schema(schema)


def translations() -> dict[Callable[..., Any], Callable[..., Any]]:
    """For ``torch.onnx.export(custom_translation_table=…)``."""
    opset = onnxscript.values.Opset(DOMAIN, 1)

    def ms_deform_attn(
        value: Any,
        sampling: Any,
        reference: Any,
        level_sizes: Any,
        valid_sizes: Any,
        num_heads: int,
        num_points: int,
    ) -> Any:
        return getattr(opset, OP_TYPE)(
            value,
            sampling,
            reference,
            level_sizes,
            valid_sizes,
            num_heads=num_heads,
            num_points=num_points,
            # TensorRT 10.6 finds the plugin under exactly these.
            plugin_version="1",
            plugin_namespace="",
        )

    return {torch.ops.codetr.ms_deform_attn.default: ms_deform_attn}


def _infer_output(context: Any) -> None:
    """Type of ``value``, its batch and channels, the number of queries of ``sampling``."""
    value, sampling = context.get_input_type(0), context.get_input_type(1)
    output = onnx.TypeProto()
    output.CopyFrom(value)
    if value.tensor_type.HasField("shape") and sampling.tensor_type.HasField("shape"):
        queries = sampling.tensor_type.shape.dim[1]
        output.tensor_type.shape.dim[1].CopyFrom(queries)
    context.set_output_type(0, output)
