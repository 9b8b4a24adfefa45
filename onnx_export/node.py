"""The custom nodes: their ONNX schemas and how the exporter writes them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import onnx
import onnxscript
import torch
from onnx import TensorProto

DOMAIN = "codetr"
OP_TYPE = "CoDetrMSDeformAttn"
WINDOW_OP_TYPE = "CoDetrWindowAttention"
NORM_OP_TYPE = "CoDetrGroupNorm"
LINEAR_OP_TYPE = "CoDetrLinear"
LINEAR_ADD_OP_TYPE = "CoDetrLinearAdd"
LAYER_NORM_OP_TYPE = "CoDetrLayerNorm"
ADD_LAYER_NORM_OP_TYPE = "CoDetrAddLayerNorm"
MERGE_LAYER_NORM_OP_TYPE = "CoDetrMergeLayerNorm"
WINDOW_TO_FP8_OP_TYPE = "CoDetrWindowAttentionToFp8"
LAYER_NORM_TO_FP8_OP_TYPE = "CoDetrLayerNormToFp8"
LAYER_NORM_AND_FP8_OP_TYPE = "CoDetrLayerNormAndFp8"
LINEAR_FP8_OP_TYPE = "CoDetrLinearFp8"
LINEAR_ADD_FP8_OP_TYPE = "CoDetrLinearAddFp8"
LINEAR_FP8_TO_FP8_OP_TYPE = "CoDetrLinearFp8ToFp8"
"""Also the names of the TensorRT plugins: parsers look a plugin up by the op type alone."""

PLUGIN_ATTRIBUTES = {"plugin_version": "1", "plugin_namespace": ""}
"""TensorRT 10.6 finds the plugins under exactly these."""

_INT, _STRING = onnx.defs.OpSchema.AttrType.INT, onnx.defs.OpSchema.AttrType.STRING
_FLOATS = ["tensor(float)", "tensor(float16)", "tensor(bfloat16)"]
_FP8, _FLOAT = "tensor(float8e4m3fn)", "tensor(float)"


def has_window_kernel(*, half: bool, window_size: int, head_channels: int) -> bool:
    """Whether the plugin has a kernel for such window attention: ``plugin/csrc/window_attn.h``.

    Args:
        half: computed in float16 or bfloat16.
        window_size: side of a window, in tokens.
        head_channels: of one head.
    """
    return half and window_size in (7, 8, 12) and head_channels == 32


def register_schemas() -> None:
    """Tell ``onnx`` about the nodes, so that checker and shape inference know them. Idempotent."""
    if onnx.defs.has(OP_TYPE, DOMAIN):
        return
    _register(
        OP_TYPE,
        "Fused multi-scale deformable attention; see codetr/deform_attn.py.",
        inputs=(
            ("value", "T", "(B, S, C); levels one after the other, row-major"),
            ("sampling", "T", "(B, Q, M*L*P*3): offsets x, y, then attention logits, both raw"),
            ("reference", "tensor(float)", "(B or 1, Q, 2 or 4) relative to the valid region"),
            ("level_sizes", "tensor(int32)", "(L, 2) height and width of each level"),
            ("valid_sizes", "tensor(int32)", "(B or 1, L, 2) what of each level is picture"),
        ),
        outputs=[("output", "T", "(B, Q, C)")],
        attributes=("num_heads", "num_points"),
        infer=_infer_sampled,
    )
    _register(
        WINDOW_OP_TYPE,
        "Attention inside the windows of a Swin block; see codetr/window_attn.py.",
        inputs=(
            ("qkv", "T", "(B, H, W, 3C): queries, keys, values; without bias if `add_bias` is 1"),
            ("padding", "T", "(3C): the same of a padded token, which is the bias"),
            ("bias", "T", "(M, N, N): added to the logits of M heads and N tokens of a window"),
        ),
        outputs=[("output", "T", "(B, H, W, C)")],
        attributes=("window_size", "shift", "add_bias"),
        infer=_infer_attended,
    )
    _register(
        NORM_OP_TYPE,
        "Group normalisation of a map whose channels come last; see codetr/group_norm.py.",
        inputs=(
            ("x", "T", "(B, H, W, C)"),
            ("weight", "tensor(float)", "(C)"),
            ("bias", "tensor(float)", "(C)"),
        ),
        outputs=[("output", "T", "(B, H, W, C)")],
        attributes=("num_groups",),
        infer=_infer_same,
    )
    factors = (("x", "T", "(..., K)"), ("weight", "T", "(N, K)"), ("bias", "T", "(N)"))
    residual = ("residual", "T", "(..., N)")
    for op_type, added in ((LINEAR_OP_TYPE, ()), (LINEAR_ADD_OP_TYPE, (residual,))):
        _register(
            op_type,
            "x W^T + b + residual; of it GELU by tanh (`activation` 1) or ReLU (2).",
            inputs=(*factors, *added),
            outputs=[("output", "T", "(..., N)")],
            attributes=("activation",),
            infer=_infer_linear,
        )
    _register(
        LAYER_NORM_OP_TYPE,
        "Layer normalisation, eps 1e-5, with float32 statistics; see onnx_export/layer_norm.py.",
        inputs=(
            ("x", "T", "(B, H, W, C) or (B, S, C)"),
            ("weight", "tensor(float)", "(C)"),
            ("bias", "tensor(float)", "(C)"),
        ),
        outputs=[("output", "T", "as x")],
        attributes=(),
        infer=_infer_same,
    )
    parameters = (("weight", _FLOAT, "(C)"), ("bias", _FLOAT, "(C)"))
    _register(
        ADD_LAYER_NORM_OP_TYPE,
        f"{LAYER_NORM_OP_TYPE} of x + added.",
        inputs=(("x", "T", "(B, H, W, C) or (B, S, C)"), *parameters, ("added", "T", "as x")),
        outputs=[("output", "T", "as x")],
        attributes=(),
        infer=_infer_same,
    )
    _register(
        MERGE_LAYER_NORM_OP_TYPE,
        f"{LAYER_NORM_OP_TYPE} of 2 x 2 tokens as one, in the order (row, column, channel).",
        inputs=(("x", "T", "(B, H, W, C/4)"), *parameters),
        outputs=[("output", "T", "(B, H/2, W/2, C)")],
        attributes=(),
        infer=_infer_merged,
    )
    _register_fp8()


def _register_fp8() -> None:
    """The same with fp8: ``ToFp8`` is of outputs, ``Fp8`` of what a linear layer multiplies."""
    inverse = ("inverse_scale", _FLOAT, "(1): one by the scale of what is quantised")
    parameters = (("weight", _FLOAT, "(C)"), ("bias", _FLOAT, "(C)"))
    _register(
        WINDOW_TO_FP8_OP_TYPE,
        f"{WINDOW_OP_TYPE} whose output is quantised.",
        inputs=(("qkv", "T", ""), ("padding", "T", ""), ("bias", "T", ""), inverse),
        outputs=[("output", _FP8, "(B, H, W, C)")],
        attributes=("window_size", "shift", "add_bias"),
        infer=_to(TensorProto.FLOAT8E4M3FN, _infer_attended),
    )
    _register(
        LAYER_NORM_TO_FP8_OP_TYPE,
        f"{LAYER_NORM_OP_TYPE} whose output is quantised; its scale is in weight and bias.",
        inputs=(("x", "T", ""), *parameters),
        outputs=[("output", _FP8, "as x")],
        attributes=(),
        infer=_to(TensorProto.FLOAT8E4M3FN, _infer_same),
    )
    _register(
        LAYER_NORM_AND_FP8_OP_TYPE,
        f"{LAYER_NORM_OP_TYPE} whose output is there twice: as it is, and quantised.",
        inputs=(("x", "T", ""), *parameters, inverse),
        outputs=[("output", "T", "as x"), ("quantised", _FP8, "as x")],
        attributes=(),
        infer=_infer_same_and_fp8,
    )
    factors = (("x", _FP8, "(..., K)"), ("weight", _FP8, "(N, K)"), ("bias", "T", "(N)"))
    residual = ("residual", "T", "(..., N)")
    scales = (("x_scale", _FLOAT, "(1)"), ("weight_scale", _FLOAT, "(1)"))
    for op_type, others, output, infer in (
        (LINEAR_FP8_OP_TYPE, scales, "T", _to(TensorProto.FLOAT16, _infer_linear)),
        (LINEAR_ADD_FP8_OP_TYPE, (residual, *scales), "T", _to(TensorProto.FLOAT16, _infer_linear)),
        (LINEAR_FP8_TO_FP8_OP_TYPE, (*scales, inverse), _FP8, _infer_linear),
    ):
        _register(
            op_type,
            "x W^T + b + residual of fp8; of it GELU by tanh (`activation` 1) or ReLU (2).",
            inputs=(*factors, *others),
            outputs=[("output", output, "(..., N)")],
            attributes=("activation",),
            infer=infer,
        )


def _register(
    op_type: str,
    doc: str,
    *,
    inputs: Iterable[tuple[str, str, str]],
    outputs: Iterable[tuple[str, str, str]],
    attributes: Iterable[str],
    infer: Callable[[Any], None],
) -> None:
    define = onnx.defs.OpSchema
    kinds = dict.fromkeys(attributes, _INT) | dict.fromkeys(PLUGIN_ATTRIBUTES, _STRING)
    schema = define(
        op_type,
        DOMAIN,
        1,
        doc=doc,
        inputs=[define.FormalParameter(*parameter) for parameter in inputs],
        outputs=[define.FormalParameter(*parameter) for parameter in outputs],
        type_constraints=[("T", _FLOATS, "type of all that is computed with")],
        attributes=[define.Attribute(*item, "", required=True) for item in kinds.items()],
    )
    schema.set_type_and_shape_inference_function(infer)
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
            **PLUGIN_ATTRIBUTES,
        )

    def window_attention(qkv: Any, padding: Any, bias: Any, window_size: int, shift: int) -> Any:
        return getattr(opset, WINDOW_OP_TYPE)(
            qkv,
            padding,
            bias,
            window_size=window_size,
            shift=shift,
            add_bias=0,
            **PLUGIN_ATTRIBUTES,
        )

    def group_norm(x: Any, weight: Any, bias: Any, num_groups: int) -> Any:
        return getattr(opset, NORM_OP_TYPE)(
            x, weight, bias, num_groups=num_groups, **PLUGIN_ATTRIBUTES
        )

    return {
        torch.ops.codetr.ms_deform_attn.default: ms_deform_attn,
        torch.ops.codetr.window_attention.default: window_attention,
        torch.ops.codetr.group_norm.default: group_norm,
    }


def _infer_sampled(context: Any) -> None:
    """Type of ``value``, its batch and channels, the number of queries of ``sampling``."""
    value, sampling = context.get_input_type(0), context.get_input_type(1)
    output = onnx.TypeProto()
    output.CopyFrom(value)
    if value.tensor_type.HasField("shape") and sampling.tensor_type.HasField("shape"):
        queries = sampling.tensor_type.shape.dim[1]
        output.tensor_type.shape.dim[1].CopyFrom(queries)
    context.set_output_type(0, output)


def _infer_attended(context: Any) -> None:
    """Type and shape of ``qkv`` with a third of its channels."""
    qkv = context.get_input_type(0)
    output = onnx.TypeProto()
    output.CopyFrom(qkv)
    if qkv.tensor_type.HasField("shape"):
        channels = output.tensor_type.shape.dim[3]
        if channels.HasField("dim_value"):
            channels.dim_value //= 3
        else:
            channels.Clear()
    context.set_output_type(0, output)


def _infer_same(context: Any) -> None:
    """Type and shape of the first input."""
    context.set_output_type(0, context.get_input_type(0))


def _infer_same_and_fp8(context: Any) -> None:
    """Type and shape of the first input, and its shape in fp8."""
    x = context.get_input_type(0)
    quantised = onnx.TypeProto()
    quantised.CopyFrom(x)
    quantised.tensor_type.elem_type = TensorProto.FLOAT8E4M3FN
    for index, output in enumerate((x, quantised)):
        context.set_output_type(index, output)


def _infer_merged(context: Any) -> None:
    """Type of ``x``, half its height and width, the channels of ``weight``."""
    x, weight = context.get_input_type(0), context.get_input_type(1)
    output = onnx.TypeProto()
    output.CopyFrom(x)
    if x.tensor_type.HasField("shape"):
        for size in output.tensor_type.shape.dim[1:3]:
            if size.HasField("dim_value"):
                size.dim_value //= 2
            else:
                size.Clear()
        output.tensor_type.shape.dim[3].CopyFrom(weight.tensor_type.shape.dim[0])
    context.set_output_type(0, output)


def _infer_linear(context: Any) -> None:
    """Type and shape of ``x`` with the channels of ``weight``."""
    x, weight = context.get_input_type(0), context.get_input_type(1)
    output = onnx.TypeProto()
    output.CopyFrom(x)
    if x.tensor_type.HasField("shape") and weight.tensor_type.HasField("shape"):
        output.tensor_type.shape.dim[-1].CopyFrom(weight.tensor_type.shape.dim[0])
    context.set_output_type(0, output)


def _to(element: int, infer: Callable[[Any], None]) -> Callable[[Any], None]:
    """The same inference, but the output has these elements."""

    def infer_other(context: Any) -> None:
        infer(context)
        output = context.get_output_type(0)
        output.tensor_type.elem_type = element
        context.set_output_type(0, output)

    return infer_other
