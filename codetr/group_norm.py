"""Group normalisation of maps whose channels come last, for the neck.

Written out, because neither PyTorch nor ONNX has it in this layout. On request an exported graph
holds it as one node, which the TensorRT plugin computes; :func:`group_norm` is its reference.
"""

from __future__ import annotations

import torch
from torch import Tensor

EPSILON = 1e-5
"""Added to variances; the plugin's kernel has the same constant."""


def group_norm(x: Tensor, weight: Tensor, bias: Tensor, num_groups: int) -> Tensor:
    """Normalise every group of every picture, with float32 statistics.

    Variances are of centred values, so that no large mean drowns them.

    Args:
        x: (B, H, W, C) float32, float16 or bfloat16.
        weight: (C,) float32.
        bias: (C,) float32.
        num_groups: of neighbouring channels.

    Returns:
        (B, H, W, C), dtype of ``x``.
    """
    y = x.float()
    # First of every row and channel: many short sums, which a GPU takes at once, and no axis
    # of the whole map has to be split. Rows are equally long, so theirs join exactly.
    row_mean = y.mean(2, keepdim=True)  # (B, H, 1, C)
    row_variance = _squares(y - row_mean).mean(2, keepdim=True)  # (B, H, 1, C)
    mean = _group_mean(row_mean, num_groups)
    variance = _group_mean(row_variance + _squares(row_mean - mean), num_groups)
    scale = torch.rsqrt(variance + EPSILON) * weight  # (B, 1, 1, C)
    return ((y - mean) * scale + bias).to(x.dtype)


@torch.library.custom_op("codetr::group_norm", mutates_args=())
def group_norm_node(x: Tensor, weight: Tensor, bias: Tensor, num_groups: int) -> Tensor:
    """:func:`group_norm` as one node of an exported graph."""
    return group_norm(x, weight, bias, num_groups)


@group_norm_node.register_fake
def _(x: Tensor, weight: Tensor, bias: Tensor, num_groups: int) -> Tensor:
    del weight, bias, num_groups
    return torch.empty_like(x)


def _group_mean(x: Tensor, num_groups: int) -> Tensor:
    """(B, H, 1, C) -> (B, 1, 1, C): over rows and a group's channels, for each of them."""
    size = x.shape[-1] // num_groups
    grouped = x.unflatten(-1, (-1, size))  # (B, H, 1, G, C/G)
    mean = grouped.mean((1, 4), keepdim=True)  # (B, 1, 1, G, 1)
    return mean.expand(-1, -1, -1, -1, size).flatten(-2)


def _squares(x: Tensor) -> Tensor:
    # Not ``square``, which becomes a power in ONNX.
    return x * x
