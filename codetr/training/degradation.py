"""What cameras and files do to pictures: blur, noise and the steps of JPEG."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

BLOCK = 8
"""JPEG's blocks; pictures are made of whole ones."""
_NOISE = 10.0
_STEP = 12.0
_NO_STEP = 0.01


def degraded(images: Tensor, generator: torch.Generator) -> Tensor:
    """(B, 3, H, W) -> the same in whole numbers 0 to 255, some of them blurred, noisy, quantised.

    Args:
        images: with H and W multiples of ``BLOCK``.
        generator: on the CPU.
    """
    draws = torch.rand((3, len(images), 1, 1, 1), generator=generator)
    blur, noise, step = draws.to(images.device, non_blocking=True)
    images = images.lerp(_blurred(images), (1.6 * blur - 0.6).clamp(min=0))
    grain = torch.Generator(images.device).manual_seed(generator.initial_seed())
    images += _NOISE * noise**2 * torch.randn(images.shape, device=images.device, generator=grain)
    images = _quantised(images, _STEP * (2 * step - 1).clamp(min=0) + _NO_STEP)
    return images.round_().clamp_(0, 255)


def _blurred(images: Tensor) -> Tensor:
    """Means of 3 x 3, twice: as a blur over 5 x 5, and no convolution that cuDNN may round."""
    for _ in range(2):
        images = F.avg_pool2d(images, 3, stride=1, padding=1, count_include_pad=False)
    return images


def _quantised(images: Tensor, step: Tensor) -> Tensor:
    """Round the cosine transform of every block; ``step`` (B, 1, 1, 1) goes up with frequency."""
    index = torch.arange(BLOCK, device=images.device)
    cosines = (math.pi / BLOCK * (index + 0.5) * index[:, None]).cos() * (2 / BLOCK) ** 0.5
    cosines[0] /= 2**0.5  # (frequency, pixel), orthonormal
    steps = step[..., None, None] * (1 + 0.7 * (index + index[:, None]))[:, None]
    blocks = images.unflatten(-1, (-1, BLOCK)).unflatten(-3, (-1, BLOCK))  # (B, 3, h, 8, w, 8)
    spectrum = torch.einsum("fi,bchiwj,gj->bchfwg", cosines, blocks, cosines)
    spectrum = (spectrum / steps).round_() * steps
    blocks = torch.einsum("fi,bchfwg,gj->bchiwj", cosines, spectrum, cosines)
    return blocks.flatten(-2).flatten(-3, -2)  # (B, 3, H, W)
