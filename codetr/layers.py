"""Small pieces shared by backbone, neck and transformer.

Norms compute in float32 whatever type flows through them; in a float32 model the casts vanish.
"""

from __future__ import annotations

import itertools
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

TWO_PI = 2 * math.pi


class LayerNorm(nn.LayerNorm):
    """LayerNorm (eps 1e-5) with float32 statistics and parameters; keeps the input's dtype."""

    def forward(self, x: Tensor) -> Tensor:
        """(..., C) -> (..., C)."""
        y = F.layer_norm(x.float(), self.normalized_shape, self.weight, self.bias, self.eps)
        return y.to(x.dtype)


class GroupNorm(nn.GroupNorm):
    """GroupNorm (eps 1e-5) of maps whose channels come last; keeps the input's dtype.

    Written out, with float32 statistics and parameters: neither PyTorch nor ONNX has it in this
    layout. Variances are of centred values, so that no large mean drowns them.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C)."""
        y = x.float()
        # First of every row and channel: many short sums, which a GPU takes at once, and no axis
        # of the whole map has to be split. Rows are equally long, so theirs join exactly.
        row_mean = y.mean(2, keepdim=True)  # (B, H, 1, C)
        row_variance = _squares(y - row_mean).mean(2, keepdim=True)  # (B, H, 1, C)
        mean = self._group_mean(row_mean)
        variance = self._group_mean(row_variance + _squares(row_mean - mean))
        scale = torch.rsqrt(variance + self.eps) * self.weight  # (B, 1, 1, C)
        return ((y - mean) * scale + self.bias).to(x.dtype)

    def _group_mean(self, x: Tensor) -> Tensor:
        """(B, H, 1, C) -> (B, 1, 1, C): over rows and a group's channels, for each of them."""
        size = self.num_channels // self.num_groups
        grouped = x.unflatten(-1, (-1, size))  # (B, H, 1, G, C/G)
        mean = grouped.mean((1, 4), keepdim=True)  # (B, 1, 1, G, 1)
        return mean.expand(-1, -1, -1, -1, size).flatten(-2)


class FFN(nn.Module):
    """Two linear layers; the caller adds the residual."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(channels, hidden)
        self.fc2 = nn.Linear(hidden, channels)

    def forward(self, x: Tensor) -> Tensor:
        """(..., C) -> (..., C), with ReLU between the layers."""
        return self.fc2(F.relu(self.fc1(x)))


def _squares(x: Tensor) -> Tensor:
    # Not ``square``, which becomes a power in ONNX.
    return x * x


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
