"""Swin Transformer (arXiv 2103.14030) as ``mmdet/models/backbones/swin.py`` runs it.

Everything stays in (B, H, W, C).

Letters: B batch, C channels, N tokens of a window, M heads.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from codetr.layers import LayerNorm
from codetr.presets import SwinConfig
from codetr.window_attn import window_attention, window_attention_node

PATCH_SIZE = 4
MLP_RATIO = 4


class PatchConv(nn.Conv2d):
    """4x4 convolution of stride 4: a product of every patch."""

    def __init__(self, out_channels: int) -> None:
        super().__init__(3, out_channels, PATCH_SIZE, stride=PATCH_SIZE)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) with H and W multiples of 4 -> (B, H/4, W/4, C)."""
        height, width = (size // PATCH_SIZE for size in images.shape[2:])
        rows = images.reshape(-1, 3, height, PATCH_SIZE, width, PATCH_SIZE)
        patches = rows.permute(0, 2, 4, 1, 3, 5).flatten(3)  # (B, H/4, W/4, 48)
        return F.linear(patches, self.weight.flatten(1), self.bias)


class PatchEmbed(nn.Module):
    """4x4 patches to tokens, then LayerNorm."""

    def __init__(self, embed_dims: int) -> None:
        super().__init__()
        self.projection = PatchConv(embed_dims)
        self.norm = LayerNorm(embed_dims)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, ceil(H/4), ceil(W/4), C)."""
        height, width = images.shape[2:]
        # int: traced for any multiple of 32, these are numbers too; else the trace takes minutes.
        below, right = int(-height % PATCH_SIZE), int(-width % PATCH_SIZE)
        if below or right:
            images = F.pad(images, (0, right, 0, below))
        return self.norm(self.projection(images))


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
        below, right = int(x.shape[1] % 2), int(x.shape[2] % 2)
        if below or right:  # padding by nothing would be a node
            x = F.pad(x, (0, 0, 0, right, 0, below))
        _, height, width, channels = x.shape
        x = x.reshape(-1, height // 2, 2, width // 2, 2, channels)
        x = x.transpose(2, 3).flatten(3)  # (B, H/2, W/2, 4C)
        return self.reduction(self.norm(x))


class WindowAttention(nn.Module):
    """Multi-head self-attention inside each window, with a relative position bias."""

    as_node = False
    """Whether a graph gets it as one node; ``onnx_export.kernels`` decides."""
    relative_position_index: Tensor

    def __init__(self, channels: int, num_heads: int, window_size: int, shift: int) -> None:
        super().__init__()
        self.window_size = window_size
        self.shift = shift
        self.qkv = nn.Linear(channels, 3 * channels)
        self.proj = nn.Linear(channels, channels)
        self.relative_position_bias_table = nn.Parameter(
            torch.zeros((2 * window_size - 1) ** 2, num_heads)
        )
        index = relative_position_index(window_size)
        self.register_buffer("relative_position_index", index, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C)."""
        # The original pads with zeros before this layer, of which it makes its bias.
        attend = window_attention_node if self.as_node else window_attention
        attended: Tensor = attend(
            self.qkv(x), self.qkv.bias, self.position_bias(), self.window_size, self.shift
        )
        return self.proj(attended)

    def position_bias(self) -> Tensor:
        """(M, N, N): the learned bias of every pair of tokens."""
        return self.relative_position_bias_table[self.relative_position_index].permute(2, 0, 1)


class SwinBlock(nn.Module):
    """Window attention and MLP, each behind a norm, each with a residual."""

    def __init__(self, channels: int, num_heads: int, window_size: int, shift: int) -> None:
        super().__init__()
        self.norm1 = LayerNorm(channels)
        self.attn = WindowAttention(channels, num_heads, window_size, shift)
        self.norm2 = LayerNorm(channels)
        self.fc1 = nn.Linear(channels, MLP_RATIO * channels)
        self.gelu = nn.GELU()
        self.fc2 = nn.Linear(MLP_RATIO * channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C)."""
        x = x + self.attn(self.norm1(x))
        return x + self.fc2(self.gelu(self.fc1(self.norm2(x))))


class SwinStage(nn.Module):
    """Blocks in pairs (plain, shifted), then patch merging except in the last stage."""

    def __init__(
        self, channels: int, depth: int, num_heads: int, window_size: int, merge: bool
    ) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            SwinBlock(channels, num_heads, window_size, shift=block % 2 * (window_size // 2))
            for block in range(depth)
        )
        self.downsample = PatchMerging(channels) if merge else nn.Identity()

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(B, H, W, C) -> the same before merging, and (B, H/2, W/2, 2C) after it."""
        for block in self.blocks:
            x = block(x)
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


def relative_position_index(window_size: int) -> Tensor:
    """(N, N) int64: row of the bias table for query i and key j, by their distance."""
    position = torch.arange(window_size)
    distance = position[:, None] - position + window_size - 1  # (size, size)
    rows = distance[:, None, :, None] * (2 * window_size - 1)
    return (rows + distance[None, :, None, :]).reshape(window_size**2, window_size**2)
