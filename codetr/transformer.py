"""Encoder and decoder of Co-DINO (mmdetection ``projects/CO-DETR/codetr/transformer.py``).

Letters: B batch, S tokens of all levels, Q queries, C channels, M heads, L levels.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from codetr.deform_attn import MSDeformAttn
from codetr.geometry import Geometry
from codetr.layers import FFN, TWO_PI, LayerNorm, inverse_sigmoid, mlp, sine_embedding
from codetr.presets import CoDinoConfig

QUERY_TEMPERATURE = 10000


class EncoderLayer(nn.Module):
    """Deformable self-attention and FFN, each followed by residual and norm."""

    def __init__(self, config: CoDinoConfig) -> None:
        super().__init__()
        channels = config.embed_dims
        self.self_attn = _deform_attn(config)
        self.norm1 = LayerNorm(channels)
        self.ffn = FFN(channels, config.encoder_ffn)
        self.norm2 = LayerNorm(channels)

    def forward(self, x: Tensor, pos: Tensor, reference: Tensor, geometry: Geometry) -> Tensor:
        """(B, S, C) -> (B, S, C); positions are added to the queries only."""
        sizes = geometry.level_sizes, geometry.valid_sizes
        x = self.norm1(x + self.self_attn(x + pos, x, reference, *sizes))
        return self.norm2(x + self.ffn(x))


class Encoder(nn.Module):
    """Refines the tokens of all levels together."""

    def __init__(self, config: CoDinoConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(EncoderLayer(config) for _ in range(config.encoder_layers))

    def forward(self, x: Tensor, pos: Tensor, reference: Tensor, geometry: Geometry) -> Tensor:
        """Tokens to memory.

        Args:
            x: (B, S, C) tokens.
            pos: (B or 1, S, C) position and level encoding.
            reference: (B or 1, S, 2) float32 centre of every token.
            geometry: sizes of the levels.

        Returns:
            (B, S, C) memory.
        """
        for layer in self.layers:
            x = layer(x, pos, reference, geometry)
        return x


class SelfAttention(nn.Module):
    """Multi-head attention among the queries; positions reach queries and keys, not values."""

    def __init__(self, channels: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.scale = (channels // num_heads) ** -0.5
        self.in_proj = nn.Linear(channels, 3 * channels)
        self.out_proj = nn.Linear(channels, channels)

    def forward(self, x: Tensor, pos: Tensor) -> Tensor:
        """(B, Q, C) -> (B, Q, C); no residual is added."""
        weight, bias, split = self.in_proj.weight, self.in_proj.bias, 2 * x.shape[-1]
        query, key = F.linear(x + pos, weight[:split], bias[:split]).chunk(2, dim=-1)
        value = F.linear(x, weight[split:], bias[split:])
        query, key, value = (self._heads(t) for t in (query, key, value))
        weights = ((query * self.scale) @ key.transpose(-2, -1)).softmax(-1)  # (B, M, Q, Q)
        return self.out_proj((weights @ value).transpose(1, 2).flatten(2))

    def _heads(self, x: Tensor) -> Tensor:
        """(B, Q, C) -> (B, M, Q, C/M)."""
        return x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)


class DecoderLayer(nn.Module):
    """Self-attention, deformable cross-attention, FFN; residual and norm after each."""

    def __init__(self, config: CoDinoConfig) -> None:
        super().__init__()
        channels = config.embed_dims
        self.self_attn = SelfAttention(channels, config.num_heads)
        self.norm1 = LayerNorm(channels)
        self.cross_attn = _deform_attn(config)
        self.norm2 = LayerNorm(channels)
        self.ffn = FFN(channels, config.decoder_ffn)
        self.norm3 = LayerNorm(channels)

    def forward(
        self, x: Tensor, pos: Tensor, memory: Tensor, reference: Tensor, geometry: Geometry
    ) -> Tensor:
        """(B, Q, C) -> (B, Q, C), looking at ``memory`` (B, S, C) around ``reference``."""
        sizes = geometry.level_sizes, geometry.valid_sizes
        x = self.norm1(x + self.self_attn(x, pos))
        x = self.norm2(x + self.cross_attn(x + pos, memory, reference, *sizes))
        return self.norm3(x + self.ffn(x))


class Decoder(nn.Module):
    """Refines the queries and, layer by layer, their boxes."""

    def __init__(self, config: CoDinoConfig) -> None:
        super().__init__()
        channels = config.embed_dims
        self.layers = nn.ModuleList(DecoderLayer(config) for _ in range(config.decoder_layers))
        self.ref_point_head = mlp(2 * channels, channels, channels)
        self.norm = LayerNorm(channels)

    def forward(
        self,
        x: Tensor,
        memory: Tensor,
        reference: Tensor,
        geometry: Geometry,
        box_heads: nn.ModuleList,
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Decode the queries.

        Args:
            x: (B, Q, C) content of the queries.
            memory: (B, S, C) from the encoder.
            reference: (B, Q, 4) float32 boxes cx, cy, w, h in 0..1 of the valid region.
            geometry: sizes of the levels.
            box_heads: one for every layer, (B, Q, C) -> (B, Q, 4) box logits to add.

        Returns:
            Outputs (B, Q, C) of every layer before the final norm, and boxes (B, Q, 4): those
            that entered the first layer, then those refined after each layer.
        """
        ratios = geometry.valid_ratios()[:, :1].repeat(1, 1, 2)  # (B, 1, 4) of level 0
        hidden: list[Tensor] = []
        references = [reference]
        for layer, box_head in zip(self.layers, box_heads, strict=True):
            embedding = query_embedding(reference * ratios, x.shape[-1]).to(x.dtype)
            x = layer(x, self.ref_point_head(embedding), memory, reference, geometry)
            reference = refine(reference, box_head(x))
            hidden.append(x)
            references.append(reference)
        return hidden, references


def refine(reference: Tensor, delta: Tensor) -> Tensor:
    """Boxes (B, Q, 4) in 0..1 moved by ``delta`` (B, Q, 4) in logit space, in float32."""
    return (inverse_sigmoid(reference) + delta.float()).sigmoid()


def query_embedding(boxes: Tensor, channels: int) -> Tensor:
    """(B, Q, 4) cx, cy, w, h -> (B, Q, 2C): sine embeddings in the order cy, cx, w, h."""
    x, y, w, h = (boxes * TWO_PI).unbind(-1)
    ordered = torch.stack((y, x, w, h), dim=-1)  # (B, Q, 4)
    return sine_embedding(ordered, channels // 2, QUERY_TEMPERATURE).flatten(-2)


def _deform_attn(config: CoDinoConfig) -> MSDeformAttn:
    return MSDeformAttn(config.embed_dims, config.num_heads, config.num_levels, config.num_points)
