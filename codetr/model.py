"""Co-DINO: pictures in, boxes out (mmdetection ``projects/CO-DETR``, query head only).

Letters: B batch, H and W the padded input, S tokens of all levels, Q queries, C channels,
K classes, N detections.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from codetr.geometry import Geometry, is_proposal, proposal_logits
from codetr.layers import LayerNorm, mlp
from codetr.neck import ChannelMapper
from codetr.presets import CoDinoConfig, ResNetConfig
from codetr.resnet import ResNet
from codetr.swin import Swin
from codetr.transformer import Decoder, Encoder, refine


class Proposals(NamedTuple):
    """The tokens that become queries."""

    scores: Tensor
    """(B, S) float32: largest class logit of every token."""
    indices: Tensor
    """(B, Q) int64: chosen tokens, best first."""
    boxes: Tensor
    """(B, Q, 4) float32: cx, cy, w, h in 0..1 of the valid region."""


class Encoded(NamedTuple):
    """Pictures as tokens."""

    backbone: list[Tensor]
    """(B, H_s, W_s, C_s), finest first."""
    neck: list[Tensor]
    """(B, H_l, W_l, C), finest first."""
    geometry: Geometry
    reference: Tensor
    """(B or 1, S, 2) float32: centre of every token."""
    memory: Tensor
    """(B, S, C)."""


class Stages(NamedTuple):
    """Everything between pictures and detections, for tests and verification."""

    backbone: list[Tensor]
    """(B, H_s, W_s, C_s), finest first."""
    neck: list[Tensor]
    """(B, H_l, W_l, C), finest first."""
    geometry: Geometry
    memory: Tensor
    """(B, S, C)."""
    proposals: Proposals
    hidden: list[Tensor]
    """(B, Q, C) of every decoder layer, before the final norm."""
    references: list[Tensor]
    """(B, Q, 4) boxes: the proposals', then those refined after every decoder layer."""


class CoDino(nn.Module):
    """The detector. ``forward`` gives what the ONNX graph gives."""

    def __init__(self, config: CoDinoConfig) -> None:
        super().__init__()
        self.config = config
        channels = config.embed_dims
        backbone = config.backbone
        self.backbone = ResNet(backbone) if isinstance(backbone, ResNetConfig) else Swin(backbone)
        self.neck = ChannelMapper(backbone.out_channels, channels, config.num_levels)
        self.level_embeds = nn.Parameter(torch.zeros(config.num_levels, channels))
        self.encoder = Encoder(config)
        self.enc_output = nn.Linear(channels, channels)
        self.enc_output_norm = LayerNorm(channels)
        self.query_embed = nn.Parameter(torch.zeros(config.num_queries, channels))
        self.decoder = Decoder(config)
        # One pair of heads for each decoder layer, the last pair for the encoder's proposals.
        heads = config.decoder_layers + 1
        self.cls_branches = nn.ModuleList(
            nn.Linear(channels, config.num_classes) for _ in range(heads)
        )
        self.reg_branches = nn.ModuleList(
            mlp(channels, channels, channels, 4) for _ in range(heads)
        )

    def forward(self, images: Tensor, masks: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Detect, without NMS.

        Args:
            images: (B, 3, H, W) RGB, normalised, zero-padded at the right and the bottom.
            masks: (B, H, W) float32, 0 picture and 1 padding; None where nothing is padded.

        Returns:
            boxes (B, N, 4) float32, x1 y1 x2 y2 in pixels of the padded input, clipped to the
            picture; scores (B, N) float32, highest first; labels (B, N) int64.
            N is ``config.max_per_image``; one query may give several detections.
        """
        stages = self.stages(images, masks)
        logits, boxes = self.predict(stages, self.config.decoder_layers - 1)
        scores, picks = self.select(logits)
        boxes = to_pixels(boxes, stages.geometry.picture_sizes)
        num_classes = logits.shape[-1]
        queries = (picks // num_classes)[..., None].expand(-1, -1, 4)  # (B, N, 4)
        return boxes.gather(1, queries), scores, picks % num_classes

    def stages(self, images: Tensor, masks: Tensor | None = None) -> Stages:
        """Run everything up to the last decoder layer; arguments as ``forward``."""
        maps, levels, geometry, reference, memory = self.encode(images, masks)
        proposals = self.propose(memory, reference, geometry)
        content = self.query_embed.expand(memory.shape[0], -1, -1)
        hidden, references = self.decoder(
            content, memory, proposals.boxes, geometry, self.reg_branches[:-1]
        )
        return Stages(maps, levels, geometry, memory, proposals, hidden, references)

    def encode(self, images: Tensor, masks: Tensor | None) -> Encoded:
        """Run everything up to the encoder; arguments as ``forward``."""
        height, width = images.shape[2:]
        maps = self.backbone(images)
        levels = self.neck(maps)
        sizes = tuple((level.shape[1], level.shape[2]) for level in levels)
        geometry = Geometry.from_masks(masks, (height, width), sizes, images.device)
        tokens = torch.cat([level.flatten(1, 2) for level in levels], dim=1)  # (B, S, C)
        reference = geometry.reference_points()
        memory = self.encoder(tokens, self.encode_positions(geometry), reference, geometry)
        return Encoded(maps, levels, geometry, reference, memory)

    def encode_positions(self, geometry: Geometry) -> Tensor:
        """(B or 1, S, C): sine position plus learned level, in the type of the weights."""
        positions = geometry.positions(self.config.embed_dims)
        encoded = [
            (position + level).flatten(1, 2)
            for position, level in zip(positions, self.level_embeds.float(), strict=True)
        ]
        return torch.cat(encoded, dim=1).to(self.level_embeds.dtype)

    def propose(self, memory: Tensor, reference: Tensor, geometry: Geometry) -> Proposals:
        """Choose the Q best tokens of ``memory`` (B, S, C) as queries."""
        boxes = geometry.proposals(reference)  # (B, S, 4)
        head = self.cls_branches[-1]
        tokens = self.enc_output_norm(self.enc_output(memory))
        # Invalid tokens stay in the race with the score of a zero token, as in the original.
        blank = self.enc_output_norm(self.enc_output(memory.new_zeros(1, 1, memory.shape[-1])))
        valid = is_proposal(boxes)
        scores = torch.where(valid, head(tokens).amax(-1).float(), head(blank).amax(-1).float())
        indices = scores.topk(self.config.num_queries, dim=1).indices  # (B, Q)
        # All else is per token: for the chosen ones only.
        boxes = gather_tokens(boxes.expand(memory.shape[0], -1, -1), indices)
        tokens = torch.where(is_proposal(boxes)[..., None], gather_tokens(tokens, indices), blank)
        delta = self.reg_branches[-1](tokens).float()
        return Proposals(scores, indices, (proposal_logits(boxes) + delta).sigmoid())

    def predict(self, stages: Stages, layer: int) -> tuple[Tensor, Tensor]:
        """Class logits (B, Q, K) and boxes (B, Q, 4) of one decoder layer, both float32.

        The final norm is on the way to the heads only: these boxes are not the refined reference
        of the same layer, which comes from the output before the norm.
        """
        hidden = self.decoder.norm(stages.hidden[layer])
        logits = self.cls_branches[layer](hidden).float()
        return logits, refine(stages.references[layer], self.reg_branches[layer](hidden))

    def select(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """The best (query, class) pairs of (B, Q, K) ``logits``.

        Returns:
            scores (B, N) float32, highest first, and picks (B, N) int64: query * K + class.
        """
        best = logits.flatten(1).topk(self.config.max_per_image, dim=1)
        return best.values.sigmoid(), best.indices


def gather_tokens(x: Tensor, indices: Tensor) -> Tensor:
    """(B, S, C) and (B, Q) -> (B, Q, C)."""
    return x.gather(1, indices[..., None].expand(-1, -1, x.shape[-1]))


def to_pixels(boxes: Tensor, picture_sizes: Tensor) -> Tensor:
    """(B, Q, 4) cx cy w h in 0..1 -> x1 y1 x2 y2 in pixels, clipped to (B or 1, 2) h, w."""
    centre, size = boxes.split(2, dim=-1)
    limits = picture_sizes.flip(-1)[:, None]  # (B, 1, 2) as w, h
    corners = torch.cat((centre - size / 2, centre + size / 2), dim=-1) * limits.repeat(1, 1, 2)
    return torch.minimum(corners.clamp(min=0), limits.repeat(1, 1, 2))
