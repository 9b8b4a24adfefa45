"""The neck on tokens against PyTorch's convolutions and group norm on (B, C, H, W)."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from codetr.layers import GroupNorm
from codetr.neck import NUM_GROUPS, ChannelMapper, ConvNorm

CHANNELS = 64


def group_norm(channels: int) -> GroupNorm:
    norm = GroupNorm(NUM_GROUPS, channels)
    for parameter in norm.parameters():
        torch.nn.init.normal_(parameter, generator=torch.Generator().manual_seed(5))
    return norm


def random_map(*shape: int) -> Tensor:
    """(B, H, W, C) in which groups, rows and columns differ in mean and size."""
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    _, height, width, channels = shape
    rows, columns = torch.linspace(0, 2, height)[:, None, None], torch.arange(width)[:, None] % 3
    return x * (1 + rows) + columns + torch.linspace(-4, 4, channels)


def expected(norm: GroupNorm, x: Tensor) -> Tensor:
    """PyTorch's group norm in float64, (B, H, W, C)."""
    weight, bias = norm.weight.double(), norm.bias.double()
    y = F.group_norm(x.double().permute(0, 3, 1, 2), norm.num_groups, weight, bias, norm.eps)
    return y.permute(0, 2, 3, 1)


@torch.inference_mode()
@pytest.mark.parametrize("size", [(24, 33), (1, 7), (5, 1), (1, 1)])
def test_group_norm(size):
    norm, x = group_norm(CHANNELS), random_map(2, *size, CHANNELS)
    torch.testing.assert_close(norm(x).double(), expected(norm, x), rtol=0, atol=2e-5)


@torch.inference_mode()
def test_group_norm_of_values_far_from_zero():
    """Where the mean of squares minus the square of the mean is off by a tenth."""
    norm, x = group_norm(CHANNELS), random_map(1, 40, 56, CHANNELS) + 2000
    torch.testing.assert_close(norm(x).double(), expected(norm, x), rtol=0, atol=2e-3)


@torch.inference_mode()
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float16, 5e-4), (torch.bfloat16, 4e-3)])
def test_group_norm_of_half_precision_has_float32_statistics(dtype, tolerance):
    """Squares and sums of these are beyond 65504, where float16 ends."""
    norm, x = group_norm(CHANNELS), (random_map(1, 24, 32, CHANNELS) * 1000).to(dtype)
    found = norm(x)
    assert found.dtype == dtype
    torch.testing.assert_close(found.double(), expected(norm, x), rtol=tolerance, atol=1e-5)


@torch.inference_mode()
def test_levels_are_those_of_convolutions():
    neck = ChannelMapper((24, 48), CHANNELS, num_levels=4)
    for parameter in neck.parameters():
        torch.nn.init.normal_(parameter, generator=torch.Generator().manual_seed(1))
    maps = [random_map(2, 9, 14, 24), random_map(2, 5, 7, 48)]
    first, second = (x.permute(0, 3, 1, 2) for x in maps)

    def mapped(layer: ConvNorm, x: Tensor, **options: int) -> Tensor:
        y = F.conv2d(x, layer.conv.weight, **options)
        return F.group_norm(y, NUM_GROUPS, layer.gn.weight, layer.gn.bias)

    coarser = mapped(neck.extra_convs[0], second, stride=2, padding=1)  # not from a mapped level
    wanted = [mapped(neck.convs[0], first), mapped(neck.convs[1], second), coarser]
    wanted.append(mapped(neck.extra_convs[1], coarser, stride=2, padding=1))
    for found, level in zip(neck(maps), wanted, strict=True):
        torch.testing.assert_close(found, level.permute(0, 2, 3, 1), rtol=0, atol=5e-5)
