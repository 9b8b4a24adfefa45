"""Swin Transformer (arXiv 2103.14030) as ``mmdet/models/backbones/swin.py`` runs it.

Everything stays in (B, H, W, C). Quirks kept from the original: windows are padded after the first
norm and padded tokens are not masked, so their keys are the bias of ``qkv``; odd blocks shift even
where the map is one window.

Letters: B batch, C channels, W windows of a picture, N tokens of a window, M heads, D = C / M.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from codetr.layers import LayerNorm
from codetr.presets import SwinConfig

PATCH_SIZE = 4
MLP_RATIO = 4


class PatchEmbed(nn.Module):
    """4x4 patches to tokens, then LayerNorm."""

    def __init__(self, embed_dims: int) -> None:
        super().__init__()
        self.projection = nn.Conv2d(3, embed_dims, PATCH_SIZE, stride=PATCH_SIZE)
        self.norm = LayerNorm(embed_dims)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, ceil(H/4), ceil(W/4), C)."""
        height, width = images.shape[2:]
        images = F.pad(images, (0, -width % PATCH_SIZE, 0, -height % PATCH_SIZE))
        return self.norm(self.projection(images).permute(0, 2, 3, 1))


class PatchMerging(nn.Module):
    """2x2 neighbours to one token of twice the channels.

    The merged channels are ordered (row, column, channel), so that merging only moves whole
    tokens; ``codetr.original_names`` reorders the original's (channel, row, column) weights.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = LayerNorm(4 * channels)
        self.reduction = nn.Linear(4 * channels, 2 * channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, ceil(H/2), ceil(W/2), 2C)."""
        x = F.pad(x, (0, 0, 0, x.shape[2] % 2, 0, x.shape[1] % 2))
        _, height, width, channels = x.shape
        x = x.reshape(-1, height // 2, 2, width // 2, 2, channels)
        x = x.transpose(2, 3).flatten(3)  # (B, H/2, W/2, 4C)
        return self.reduction(self.norm(x))


class WindowAttention(nn.Module):
    """Multi-head self-attention inside each window, with a relative position bias."""

    relative_position_index: Tensor

    def __init__(self, channels: int, num_heads: int, window_size: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.scale = (channels // num_heads) ** -0.5
        self.qkv = nn.Linear(channels, 3 * channels)
        self.proj = nn.Linear(channels, channels)
        self.relative_position_bias_table = nn.Parameter(
            torch.zeros((2 * window_size - 1) ** 2, num_heads)
        )
        index = relative_position_index(window_size)
        self.register_buffer("relative_position_index", index, persistent=False)

    def forward(self, windows: Tensor, mask: Tensor | None) -> Tensor:
        """Attend inside windows.

        Args:
            windows: (B*W, N, C).
            mask: (B*W, 1, N, N) added to the logits of shifted windows, or None.

        Returns:
            (B*W, N, C).
        """
        _, tokens, channels = windows.shape
        qkv = self.qkv(windows).reshape(-1, tokens, 3, self.num_heads, channels // self.num_heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # each (B*W, M, N, D)
        # The scale sits on the query and the logits stay 4-D: TensorRT fuses that pattern.
        logits = (query * self.scale) @ key.transpose(-2, -1) + self.position_bias()
        if mask is not None:
            logits = logits + mask
        attended = logits.softmax(-1) @ value  # (B*W, M, N, D)
        return self.proj(attended.transpose(1, 2).flatten(2))

    def position_bias(self) -> Tensor:
        """(M, N, N): the learned bias of every pair of tokens."""
        return self.relative_position_bias_table[self.relative_position_index].permute(2, 0, 1)


class SwinBlock(nn.Module):
    """Window attention and MLP, each behind a norm, each with a residual."""

    def __init__(self, channels: int, num_heads: int, window_size: int, shift: int) -> None:
        super().__init__()
        self.window_size = window_size
        self.shift = shift
        self.norm1 = LayerNorm(channels)
        self.attn = WindowAttention(channels, num_heads, window_size)
        self.norm2 = LayerNorm(channels)
        self.fc1 = nn.Linear(channels, MLP_RATIO * channels)
        self.gelu = nn.GELU()
        self.fc2 = nn.Linear(MLP_RATIO * channels, channels)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C); ``mask`` (B*W, 1, N, N) is used by shifted blocks."""
        x = x + self.attend(self.norm1(x), mask)
        return x + self.fc2(self.gelu(self.fc1(self.norm2(x))))

    def attend(self, x: Tensor, mask: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C): pad, roll, attend by windows, and back."""
        size, shift = self.window_size, self.shift
        _, height, width, _ = x.shape
        x = F.pad(x, (0, 0, 0, -width % size, 0, -height % size))
        if shift:
            x = x.roll((-shift, -shift), (1, 2))
        rows, columns = x.shape[1] // size, x.shape[2] // size
        windows = self.attn(partition_windows(x, size), mask if shift else None)
        x = merge_windows(windows, rows, columns, size)
        if shift:
            x = x.roll((shift, shift), (1, 2))
        return x[:, :height, :width]


class SwinStage(nn.Module):
    """Blocks in pairs (plain, shifted), then patch merging except in the last stage."""

    def __init__(
        self, channels: int, depth: int, num_heads: int, window_size: int, merge: bool
    ) -> None:
        super().__init__()
        self.window_size = window_size
        self.blocks = nn.ModuleList(
            SwinBlock(channels, num_heads, window_size, shift=block % 2 * (window_size // 2))
            for block in range(depth)
        )
        self.downsample = PatchMerging(channels) if merge else nn.Identity()

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(B, H, W, C) -> the same before merging, and (B, H/2, W/2, 2C) after it."""
        mask = shift_mask(x.shape[1], x.shape[2], self.window_size, x)
        mask = mask.repeat(x.shape[0], 1, 1, 1)  # (B*W, 1, N, N)
        for block in self.blocks:
            x = block(x, mask)
        return x, self.downsample(x)


class Swin(nn.Module):
    """The backbone: four maps of strides 4, 8, 16 and 32."""

    def __init__(self, config: SwinConfig) -> None:
        super().__init__()
        channels = config.out_channels
        last = len(channels) - 1
        self.patch_embed = PatchEmbed(config.embed_dims)
        self.stages = nn.ModuleList(
            SwinStage(
                channels[i], config.depths[i], config.num_heads[i], config.window_size, i < last
            )
            for i in range(len(channels))
        )
        self.norms = nn.ModuleList(LayerNorm(c) for c in channels)

    def forward(self, images: Tensor) -> list[Tensor]:
        """(B, 3, H, W) -> normed stage outputs (B, H_s, W_s, C_s), finest first."""
        x = self.patch_embed(images)
        outputs = []
        for stage, norm in zip(self.stages, self.norms, strict=True):
            output, x = stage(x)
            outputs.append(norm(output))
        return outputs


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


def relative_position_index(window_size: int) -> Tensor:
    """(N, N) int64: row of the bias table for query i and key j, by their distance."""
    position = torch.arange(window_size)
    distance = position[:, None] - position + window_size - 1  # (size, size)
    rows = distance[:, None, :, None] * (2 * window_size - 1)
    return (rows + distance[None, :, None, :]).reshape(window_size**2, window_size**2)


def shift_mask(height: int, width: int, size: int, like: Tensor) -> Tensor:
    """(W, 1, N, N) with -100 between tokens that only the roll brought together, else 0.

    Rolling joins the map's end to its start; the regions are cut at the last window and at the
    shift, on the padded map.
    """

    def strips(length: int) -> Tensor:
        padded = length + -length % size
        position = torch.arange(padded, device=like.device)
        return (position >= padded - size).int() + (position >= padded - size // 2).int()

    regions = 3 * strips(height)[:, None] + strips(width)
    regions = partition_windows(regions[None, :, :, None], size).squeeze(-1)  # (W, N)
    apart = regions[:, None, :, None] != regions[:, None, None, :]
    return torch.where(apart, -100.0, 0.0).to(like.dtype)
