"""Backbone maps to equal channels (``mmdet/models/necks/channel_mapper.py``).

Everything stays in (B, H, W, C): the levels are tokens of the encoder as they are.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from codetr.layers import GroupNorm

NUM_GROUPS = 32


class PointwiseConv(nn.Conv2d):
    """1x1 convolution without bias: a product of every token."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C_in) -> (B, H, W, C_out)."""
        return F.linear(x, self.weight.flatten(1))


class DownsamplingConv(nn.Conv2d):
    """3x3 convolution of stride 2 without bias."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, 3, stride=2, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C_in) -> (B, ceil(H/2), ceil(W/2), C_out)."""
        return super().forward(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


class ConvNorm(nn.Sequential):
    """Convolution, then GroupNorm; no activation."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.conv = conv
        self.gn = GroupNorm(NUM_GROUPS, conv.out_channels)


class ChannelMapper(nn.Module):
    """1x1 convolutions, and stride-2 ones for the coarser levels.

    The first extra level is made from the last *backbone* map, not from the last mapped one.
    """

    def __init__(self, in_channels: tuple[int, ...], out_channels: int, num_levels: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(ConvNorm(PointwiseConv(c, out_channels)) for c in in_channels)
        extra_inputs = (in_channels[-1], *[out_channels] * num_levels)
        self.extra_convs = nn.ModuleList(
            ConvNorm(DownsamplingConv(extra_inputs[i], out_channels))
            for i in range(num_levels - len(in_channels))
        )

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        """Backbone maps (B, H_s, W_s, C_s) -> levels (B, H_l, W_l, C), finest first."""
        levels = [conv(x) for conv, x in zip(self.convs, maps, strict=True)]
        x = maps[-1]
        for conv in self.extra_convs:
            x = conv(x)
            levels.append(x)
        return levels
