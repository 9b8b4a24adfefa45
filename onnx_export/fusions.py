"""What ``--kernels all`` changes in a graph beside the neck's norms: passes and their nodes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from codetr.model import CoDino
from onnx_export.kernels import Kernels
from onnx_export.layer_norm import fuse_layer_norms
from onnx_export.linear import count_linear, fuse_linear, linear_layers
from onnx_export.node import LAYER_NORM_OP_TYPE
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
        (fuse_layer_norms,),
        count_linear(layers) | {LAYER_NORM_OP_TYPE: layer_norms},
    )
