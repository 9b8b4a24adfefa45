"""Backbone maps to equal channels (``mmdet/models/necks/channel_mapper.py``)."""

from __future__ import annotations

from torch import Tensor, nn

from codetr.layers import GroupNorm

NUM_GROUPS = 32


class ConvNorm(nn.Sequential):
    """Convolution without bias, then GroupNorm; no activation."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            in_channels, out_channels, kernel, stride=stride, padding=kernel // 2, bias=False
        )
        self.gn = GroupNorm(NUM_GROUPS, out_channels)


class ChannelMapper(nn.Module):
    """1x1 convolutions, and stride-2 ones for the coarser levels.

    The first extra level is made from the last *backbone* map, not from the last mapped one.
    """

    def __init__(self, in_channels: tuple[int, ...], out_channels: int, num_levels: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(ConvNorm(c, out_channels, 1, 1) for c in in_channels)
        extra_inputs = (in_channels[-1], *[out_channels] * num_levels)
        self.extra_convs = nn.ModuleList(
            ConvNorm(extra_inputs[i], out_channels, 3, 2)
            for i in range(num_levels - len(in_channels))
        )

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        """Backbone maps (B, C_s, H_s, W_s) -> levels (B, C, H_l, W_l), finest first."""
        levels = [conv(x) for conv, x in zip(self.convs, maps, strict=True)]
        x = maps[-1]
        for conv in self.extra_convs:
            x = conv(x)
            levels.append(x)
        return levels
