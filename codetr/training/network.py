"""The detector as it is trained: every layer predicts, with denoising and a dense head beside it.

What inference does not need lives here: predictions of all layers, references whose gradient stops
between layers ("look forward twice": a layer's boxes also teach the layer before), class scores in
float32, and two parts that are thrown away after training.

Letters: B batch, S tokens of all levels, Q queries, X denoising queries, C channels, K classes,
N sets of predictions.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import codetr.training.operator  # noqa: F401 (gives deformable attention its gradient)
from codetr.geometry import Geometry, is_proposal, proposal_logits
from codetr.layers import mlp
from codetr.model import CoDino, Encoded, gather_tokens
from codetr.presets import CoDinoConfig
from codetr.training.denoising import Noise, visible
from codetr.training.initialise import initialise, set_prior, set_zero
from codetr.transformer import DecoderLayer, SelfAttention, query_embedding, refine


class Predictions(NamedTuple):
    """Of one kind of queries; float32."""

    logits: Tensor
    """(N, B, Q, K)."""
    boxes: Tensor
    """(N, B, Q, 4) cx, cy, w, h in 0..1."""


class Outputs(NamedTuple):
    """Everything that has a loss."""

    matched: Predictions
    """Of the decoder's layers, then the proposals."""
    denoised: Predictions
    """Of the decoder's layers."""
    dense: Predictions
    """One set, of every token."""
    encoded: Encoded


class TrainedCoDino(nn.Module):
    """A detector with the parts that only training uses."""

    def __init__(self, config: CoDinoConfig, seed: int) -> None:
        super().__init__()
        channels = config.embed_dims
        generator = torch.Generator().manual_seed(seed)
        self.detector = CoDino(config)
        initialise(self.detector, generator)
        self.label_embedding = nn.Parameter(torch.empty(config.num_classes, channels))
        nn.init.normal_(self.label_embedding, generator=generator)
        # A collaborative head of Co-DETR (arXiv 2211.12860) at its simplest: every token close to
        # an object's centre answers for it, which trains the encoder much faster than one query
        # for each object. Its ATSS and Faster R-CNN heads are left out.
        self.dense_class = nn.Linear(channels, config.num_classes)
        self.dense_box = mlp(channels, channels, 4)
        for layer in (self.dense_class, self.dense_box[0]):
            nn.init.xavier_uniform_(layer.weight, generator=generator)  # type: ignore[arg-type]
        nn.init.zeros_(self.dense_box[0].bias)  # type: ignore[arg-type]
        set_prior(self.dense_class)
        set_zero(self.dense_box[-1])

    def forward(self, images: Tensor, masks: Tensor, noise: Noise) -> Outputs:
        """Predict; ``images`` are normalised, ``masks`` as ``CoDino.forward``'s."""
        model = self.detector
        encoded = model.encode(images, masks)
        proposed = self.propose(encoded)
        matched = proposed.boxes.shape[1]
        references = torch.cat((proposed.boxes.detach(), noise.boxes), dim=1)
        content = torch.cat(
            (model.query_embed.expand(len(images), -1, -1), self.label_embedding[noise.labels]),
            dim=1,
        )
        decoded = self.decode(content, references, visible(matched, noise), encoded)
        parts = [tensor.split([matched, noise.boxes.shape[1]], dim=2) for tensor in decoded]
        every = [
            torch.cat((part[0], proposal[None]))
            for part, proposal in zip(parts, proposed, strict=True)
        ]
        return Outputs(
            Predictions(*every), Predictions(parts[0][1], parts[1][1]), self.dense(encoded), encoded
        )

    def propose(self, encoded: Encoded) -> Predictions:
        """As ``CoDino.propose``, but with all class scores of the chosen; (B, Q, …)."""
        model = self.detector
        memory, geometry = encoded.memory, encoded.geometry
        chosen = model.propose(memory.detach(), encoded.reference, geometry).indices  # (B, Q)
        boxes = geometry.proposals(encoded.reference)
        boxes = gather_tokens(boxes.expand(len(memory), -1, -1), chosen)
        tokens = gather_tokens(memory, chosen)
        tokens = torch.where(is_proposal(boxes)[..., None], tokens, 0)
        tokens = model.enc_output_norm(model.enc_output(tokens))
        logits, delta = _predict(tokens, model.cls_branches[-1], model.reg_branches[-1])
        return Predictions(logits, (proposal_logits(boxes) + delta).sigmoid())

    def decode(
        self, x: Tensor, reference: Tensor, seen: Tensor, encoded: Encoded
    ) -> tuple[Tensor, Tensor]:
        """Class logits (N, B, Q + X, K) and boxes (N, B, Q + X, 4) of every decoder layer.

        Args:
            x: (B, Q + X, C) content of the queries.
            reference: (B, Q + X, 4) boxes they start with.
            seen: (Q + X, Q + X) bool, which keys a query sees.
            encoded: the pictures.
        """
        model, geometry, memory = self.detector, encoded.geometry, encoded.memory
        decoder = model.decoder
        ratios = geometry.valid_ratios()[:, :1].repeat(1, 1, 2)  # (B, 1, 4) of level 0
        logits, boxes = [], []
        start = reference
        for layer, class_head, box_head in zip(
            decoder.layers, model.cls_branches, model.reg_branches, strict=False
        ):
            assert isinstance(layer, DecoderLayer)
            pos = decoder.ref_point_head(query_embedding(reference * ratios, x.shape[-1]))
            x = _decode(layer, x, pos, seen, memory, reference, geometry)
            layer_logits, delta = _predict(decoder.norm(x), class_head, box_head)
            logits.append(layer_logits)
            boxes.append(refine(start, delta))
            start = refine(reference, _in_float32(box_head, x))
            reference = start.detach()
        return torch.stack(logits), torch.stack(boxes)

    def dense(self, encoded: Encoded) -> Predictions:
        """(1, B, S, …): a class and a box for every token."""
        proposals = encoded.geometry.proposals(encoded.reference)
        logits, delta = _predict(encoded.memory, self.dense_class, self.dense_box)
        return Predictions(logits[None], refine(proposals, delta)[None])


def _decode(
    layer: DecoderLayer,
    x: Tensor,
    pos: Tensor,
    seen: Tensor,
    memory: Tensor,
    reference: Tensor,
    geometry: Geometry,
) -> Tensor:
    """``DecoderLayer.forward`` with a mask for self-attention."""
    sizes = geometry.level_sizes, geometry.valid_sizes
    x = layer.norm1(x + _attend(layer.self_attn, x, pos, seen))
    x = layer.norm2(x + layer.cross_attn(x + pos, memory, reference, *sizes))
    return layer.norm3(x + layer.ffn(x))


def _attend(attention: SelfAttention, x: Tensor, pos: Tensor, seen: Tensor) -> Tensor:
    """``SelfAttention.forward`` where a query sees only some keys."""
    content, position = attention.in_proj(x), F.linear(pos, attention.in_proj.weight)
    query, key, value = content.chunk(3, dim=-1)
    of_query, of_key, _ = position.chunk(3, dim=-1)
    query, key, value = (
        tensor.unflatten(-1, (attention.num_heads, -1)).transpose(1, 2)  # (B, M, Q, C/M)
        for tensor in (query + of_query, key + of_key, value)
    )
    attended = F.scaled_dot_product_attention(query, key, value, seen)
    return attention.out_proj(attended.transpose(1, 2).flatten(2))


def _predict(x: Tensor, class_head: nn.Module, box_head: nn.Module) -> tuple[Tensor, Tensor]:
    return _in_float32(class_head, x), _in_float32(box_head, x)


def _in_float32(head: nn.Module, x: Tensor) -> Tensor:
    """Scores and boxes are not rounded to 16 bits, whatever autocast does to the rest."""
    with torch.autocast(x.device.type, enabled=False):
        return head(x.float())
