"""Attention inside the windows of a Swin block (arXiv 2103.14030) as one operator.

The operator works on the map as the linear layers have it: padding, roll, cutting into windows,
softmax and the way back happen inside. An exported graph holds it as one node, which the TensorRT
plugin computes.

Quirks kept from the original (``mmdet/models/backbones/swin.py``): padded tokens are not masked, so
their keys are the bias of ``qkv``; odd blocks shift even where the map is one window.

Letters: B batch, H and W the map, C channels, M heads, D = C / M, N tokens of a window.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def window_attention(
    qkv: Tensor, padding: Tensor, bias: Tensor, window_size: int, shift: int
) -> Tensor:
    """Attend inside windows of the map, rolled by ``shift`` and padded at right and bottom.

    Args:
        qkv: (B, H, W, 3C) float32, float16 or bfloat16: queries, keys, values, each of M heads.
        padding: (3C,) the same of a padded token.
        bias: (M, N, N) added to the logits of every query and key.
        window_size: side of a window, in tokens.
        shift: how far windows are moved to the right and down, in tokens.

    Returns:
        (B, H, W, C), dtype of ``qkv``.
    """
    _, height, width, _ = qkv.shape
    num_heads = len(bias)
    x = pad_map(qkv, padding, window_size).roll((-shift, -shift), (1, 2))
    rows, columns = x.shape[1] // window_size, x.shape[2] // window_size
    windows = partition_windows(x, window_size)  # (B*W, N, 3C)
    windows = windows.unflatten(-1, (3, num_heads, -1))  # (B*W, N, 3, M, D)
    query, key, value = windows.permute(2, 0, 3, 1, 4).unbind(0)  # each (B*W, M, N, D)
    logits = (query * query.shape[-1] ** -0.5) @ key.transpose(-2, -1) + bias
    if shift:
        mask = shift_mask(height, width, window_size, qkv)
        logits = logits + mask.repeat(len(qkv), 1, 1, 1)
    attended = (logits.softmax(-1) @ value).transpose(1, 2).flatten(2)  # (B*W, N, C)
    x = merge_windows(attended, rows, columns, window_size).roll((shift, shift), (1, 2))
    return x[:, :height, :width]


@torch.library.custom_op("codetr::window_attention", mutates_args=())
def window_attention_node(
    qkv: Tensor, padding: Tensor, bias: Tensor, window_size: int, shift: int
) -> Tensor:
    """:func:`window_attention` as one node of an exported graph."""
    # Dense, as the fake below: of a padded map it is a part otherwise.
    return window_attention(qkv, padding, bias, window_size, shift).contiguous()


@window_attention_node.register_fake
def _(qkv: Tensor, padding: Tensor, bias: Tensor, window_size: int, shift: int) -> Tensor:
    del padding, bias, window_size, shift
    return qkv.new_empty(*qkv.shape[:3], qkv.shape[3] // 3)


def pad_map(qkv: Tensor, padding: Tensor, size: int) -> Tensor:
    """(B, H, W, 3C) -> the same with H and W multiples of ``size``."""
    _, height, width, _ = qkv.shape
    below, right = -height % size, -width % size
    if not below and not right:
        return qkv
    rows = torch.arange(height + below, device=qkv.device) < height
    columns = torch.arange(width + right, device=qkv.device) < width
    inside = (rows[:, None] & columns)[..., None]  # (H, W, 1)
    return torch.where(inside, F.pad(qkv, (0, 0, 0, right, 0, below)), padding)


def partition_windows(x: Tensor, size: int) -> Tensor:
    """(B, H, W, C) -> (B*windows, size*size, C), windows row-major."""
    _, height, width, channels = x.shape
    x = x.reshape(-1, height // size, size, width // size, size, channels)
    return x.transpose(2, 3).reshape(-1, size * size, channels)


def merge_windows(windows: Tensor, rows: int, columns: int, size: int) -> Tensor:
    """(B*rows*columns, size*size, C) -> (B, rows*size, columns*size, C)."""
    channels = windows.shape[-1]
    x = windows.reshape(-1, rows, columns, size, size, channels)
    return x.transpose(2, 3).reshape(-1, rows * size, columns * size, channels)


def shift_mask(height: int, width: int, size: int, like: Tensor) -> Tensor:
    """(W, 1, N, N) with -100 between tokens that only the roll brought together, else 0."""
    regions = shift_regions(height, width, size, like.device)
    apart = regions[:, None, :, None] != regions[:, None, None, :]
    return torch.where(apart, -100.0, 0.0).to(like.dtype)


def shift_regions(height: int, width: int, size: int, device: torch.device | None) -> Tensor:
    """(W, N) int32: which part of the map every token of every rolled window belongs to.

    Rolling joins the map's end to its start; the regions are cut at the last window and at the
    shift, on the padded map.
    """

    def strips(length: int) -> Tensor:
        padded = length + -length % size
        position = torch.arange(padded, device=device)
        return (position >= padded - size).int() + (position >= padded - size // 2).int()

    regions = 3 * strips(height)[:, None] + strips(width)
    return partition_windows(regions[None, :, :, None], size).squeeze(-1)
