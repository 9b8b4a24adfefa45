"""Textured backgrounds: a random mix of noise, blobs, stripes, checks and gradients in colours."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

_COARSEST, _FINEST = 4, 128
"""Random values along each side of a noise's octaves."""
_KINDS = 6
_AMPLITUDES = (45.0, 45.0, 35.0, 35.0, 25.0, 50.0)
"""The most a kind of texture changes a picture, of 255; in the order of ``_textures``."""


def random_backgrounds(
    count: int, size: tuple[int, int], device: torch.device, generator: torch.Generator
) -> Tensor:
    """(count, 3, H, W) float32, about 0 to 255.

    Args:
        count: pictures.
        size: H and W.
        device: where they are made.
        generator: on the CPU.
    """

    def uniform(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator)

    # Grey most of all, so that colours do not give the shapes away; two or three kinds each.
    colours = uniform(count, 3, 1) * 0.4 + uniform(count, 3, _KINDS) * 0.6
    used = uniform(count, 1, _KINDS) < 0.4
    mixing = torch.tensor(_AMPLITUDES) * colours * uniform(count, 1, _KINDS) * used * 1.4
    level = 35 + 185 * uniform(count, 1, 1) + 60 * (uniform(count, 3, 1) - 0.5)
    textures = _textures(
        _noise(count, size, device, generator), uniform(count, 8).to(device, non_blocking=True)
    )
    mixed = torch.baddbmm(
        level.to(device, non_blocking=True),
        mixing.to(device, non_blocking=True),
        textures.flatten(2),
    )
    return mixed.unflatten(-1, size)


def _noise(
    count: int, size: tuple[int, int], device: torch.device, generator: torch.Generator
) -> Tensor:
    """(count, 3, H, W): noise of many octaves; the third channel has little of the fine ones."""
    keep = torch.rand((count, 3, 1, 1), generator=generator) * 0.6 + 0.2  # share of coarse octaves
    keep[:, 2] = 0.85
    side = _COARSEST
    noise = torch.randn((count, 3, side, side), generator=generator).to(device, non_blocking=True)
    keep = keep.to(device, non_blocking=True)
    while side < _FINEST:
        side *= 2
        finer = torch.randn((count, 3, side, side), generator=generator).to(
            device, non_blocking=True
        )
        noise = F.interpolate(noise, (side, side), mode="bicubic") * keep.sqrt()
        noise += finer * (1 - keep).sqrt()
    return F.interpolate(noise, size, mode="bicubic")


def _textures(noise: Tensor, uniform: Tensor) -> Tensor:
    """(B, 3, H, W) noise and (B, 8) random numbers -> (B, _KINDS, H, W), each about -1 to 1."""
    height, width = noise.shape[-2:]
    u = uniform[..., None, None].unbind(1)  # each (B, 1, 1)
    y = torch.arange(height, device=noise.device, dtype=torch.float32)[:, None]
    x = torch.arange(width, device=noise.device, dtype=torch.float32)
    angle, direction = u[0] * math.pi, u[1] * 2 * math.pi
    wavelength = 8 * 10 ** u[2]  # 8 to 80 pixels
    bend = 3 * u[3] ** 2 * noise[:, 2]
    along = (x * angle.cos() + y * angle.sin()) * (2 * math.pi / wavelength) + bend
    across = (y * angle.cos() - x * angle.sin()) * (2 * math.pi / wavelength) + bend
    sharpness = 1 + 8 * u[4]
    stripes = (sharpness * along.sin()).tanh()
    checks = (sharpness * along.sin() * across.sin()).tanh()
    gradient = ((x / width - u[5]) * direction.cos() + (y / height - u[6]) * direction.sin()) * 2
    blobs = (noise[:, 2] * (1 + 9 * u[7])).tanh()
    return torch.stack((noise[:, 0], noise[:, 1], blobs, stripes, checks, gradient), dim=1)
