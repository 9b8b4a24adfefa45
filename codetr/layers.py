"""Small pieces shared by backbone, neck and transformer.

Norms compute in float32 whatever type flows through them; in a float32 model the casts vanish.
"""

from __future__ import annotations

import itertools
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from codetr.group_norm import group_norm, group_norm_node

TWO_PI = 2 * math.pi


class LayerNorm(nn.LayerNorm):
    """LayerNorm (eps 1e-5) with float32 statistics and parameters; keeps the input's dtype."""

    def forward(self, x: Tensor) -> Tensor:
        """(..., C) -> (..., C)."""
        y = F.layer_norm(x.float(), self.normalized_shape, self.weight, self.bias, self.eps)
        return y.to(x.dtype)


class GroupNorm(nn.GroupNorm):
    """GroupNorm (eps 1e-5) of maps whose channels come last; keeps the input's dtype."""

    as_node = False
    """Whether an exported graph gets it as one node; ``onnx_export.kernels`` decides."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C)."""
        normalise = group_norm_node if self.as_node else group_norm
        y: Tensor = normalise(x, self.weight, self.bias, self.num_groups)
        return y


class FFN(nn.Module):
    """Two linear layers; the caller adds the residual."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(channels, hidden)
        self.fc2 = nn.Linear(hidden, channels)

    def forward(self, x: Tensor) -> Tensor:
        """(..., C) -> (..., C), with ReLU between the layers."""
        return self.fc2(F.relu(self.fc1(x)))


def mlp(*channels: int) -> nn.Sequential:
    """Linear layers of the given widths with ReLU between them."""
    layers: list[nn.Module] = []
    for fan_in, fan_out in itertools.pairwise(channels):
        layers += [nn.Linear(fan_in, fan_out), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def inverse_sigmoid(x: Tensor, eps: float = 1e-3) -> Tensor:
    """Logit of ``x`` in 0..1, bounded to about +-6.907 (``mmdet``'s, with Co-DINO's ``eps``)."""
    x = x.clamp(0, 1)
    return torch.log(x.clamp(min=eps) / (1 - x).clamp(min=eps))


def sine_embedding(angle: Tensor, channels: int, temperature: float) -> Tensor:
    """Sine and cosine of ``angle / temperature**(2i/channels)``, interleaved.

    Args:
        angle: (...) float32, radians.
        channels: even number of output channels.
        temperature: 20 for positions, 10000 for the decoder's queries.

    Returns:
        (..., channels) float32.
    """
    octave = torch.arange(channels // 2, dtype=torch.float32, device=angle.device)
    # Written as the original writes it (a power, then a division): the last bits agree.
    scaled = angle[..., None] / temperature ** (2 * octave / channels)  # (..., channels/2)
    return torch.stack((scaled.sin(), scaled.cos()), dim=-1).flatten(-2)
