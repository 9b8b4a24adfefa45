"""Bottleneck ResNet, PyTorch style: the stride sits in the 3x3 (``mmdet`` backbones/resnet.py)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from codetr.presets import ResNetConfig

EXPANSION = 4


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 convolutions with a residual."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        out_channels = EXPANSION * channels
        self.conv1 = nn.Conv2d(in_channels, channels, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv3 = nn.Conv2d(channels, out_channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.downsample = None
        if stride != 1 or in_channels != out_channels:
            self.downsample = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=False),
                nn.BatchNorm2d(out_channels),
            )

    def forward(self, x: Tensor) -> Tensor:
        """(B, C_in, H, W) -> (B, 4C, H/stride, W/stride)."""
        y = F.relu(self.bn1(self.conv1(x)))
        y = F.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))


class ResNet(nn.Module):
    """The backbone: four maps of strides 4, 8, 16 and 32."""

    def __init__(self, config: ResNetConfig) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        in_channels = 64
        for stage, depth in enumerate(config.depths):
            channels = 64 * 2**stage
            blocks = []
            for block in range(depth):
                stride = 2 if stage > 0 and block == 0 else 1
                blocks.append(Bottleneck(in_channels, channels, stride))
                in_channels = EXPANSION * channels
            self.add_module(f"layer{stage + 1}", nn.Sequential(*blocks))
        self.num_stages = len(config.depths)

    def forward(self, images: Tensor) -> list[Tensor]:
        """(B, 3, H, W) -> stage outputs (B, H_s, W_s, C_s), finest first."""
        x = F.relu(self.bn1(self.conv1(images)))
        x = F.max_pool2d(x, 3, stride=2, padding=1)
        outputs = []
        for stage in range(self.num_stages):
            x = self.get_submodule(f"layer{stage + 1}")(x)
            outputs.append(x.permute(0, 2, 3, 1))
        return outputs
