"""What ``--kernels all`` changes in a graph beside the neck's norms: passes and their nodes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from codetr.model import CoDino
from codetr.swin import PatchMerging
from codetr.transformer import EncoderLayer
from onnx_export.kernels import Kernels
from onnx_export.layer_norm import fuse_layer_norms, let_norms_read_more
from onnx_export.linear import count_linear, fuse_linear, linear_layers
from onnx_export.node import (
    ADD_LAYER_NORM_OP_TYPE,
    LAYER_NORM_OP_TYPE,
    MERGE_LAYER_NORM_OP_TYPE,
)
from onnx_export.passes import Pass
from onnx_export.precision import Precision
from onnx_export.window_bias import leave_bias_to_windows


class Fusions(NamedTuple):
    """Passes, and the nodes that the graph has after them."""

    traced: Sequence[Pass]
    """For the graph as it was traced."""
    folded: Sequence[Pass]
    """For the graph whose constants are folded."""
    counts: dict[str, int]
    """How many nodes they make, by op type."""


def plan_fusions(
    model: CoDino, kernels: Kernels, precision: Precision, layer_norms: int
) -> Fusions:
    """Choose the passes; none without ``all`` or a half precision.

    Args:
        model: before it is traced.
        kernels: as in the export's configuration.
        precision: as there.
        layer_norms: how many LayerNormalization nodes the graph has.
    """
    if kernels != "all" or precision == "fp32":
        return Fusions((), (), {})
    layers = linear_layers(model, precision)
    # In fp8 the product of qkv is a node, which adds the bias at no cost.
    of_windows = () if precision == "fp8" else (leave_bias_to_windows,)
    return Fusions(
        (fuse_linear(layers), *of_windows),
        (fuse_layer_norms, let_norms_read_more),
        count_linear(layers) | _count_norms(model, precision, layer_norms),
    )


def _count_norms(model: CoDino, precision: Precision, layer_norms: int) -> dict[str, int]:
    modules = list(model.modules())
    merging = sum(isinstance(m, PatchMerging) for m in modules)
    # In fp8 the FFN's last product adds the residual stream.
    adding = sum(isinstance(m, EncoderLayer) for m in modules) if precision != "fp8" else 0
    return {
        LAYER_NORM_OP_TYPE: layer_norms - merging - adding,
        MERGE_LAYER_NORM_OP_TYPE: merging,
        ADD_LAYER_NORM_OP_TYPE: adding,
    }
