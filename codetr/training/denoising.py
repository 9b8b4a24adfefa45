"""Contrastive denoising (DINO, arXiv 2203.03605): boxes with noise as extra queries.

From the first step they show the decoder how to move a box to its object, without any matching.
Groups of queries see the matched queries and themselves, never each other: two noisy copies of a
box tell where it is.

Letters: B batch, G boxes of a picture at most, R groups, X = R * 2 * G queries.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from codetr.training.boxes import to_centres, to_corners
from codetr.training.targets import Targets

QUERIES = 120
"""Extra queries, about; as many groups as fit."""
WRONG_LABELS = 0.25
"""Share of labels replaced by random ones."""
BOX_NOISE = 0.4
"""Largest move of a positive's corner relative to half the box; a negative's is up to twice it."""
EPS = 1e-3


class Noise(NamedTuple):
    """Queries in the order group, positives before negatives, box."""

    labels: Tensor
    """(B, X) int64, what the queries are told."""
    boxes: Tensor
    """(B, X, 4) cx, cy, w, h in 0..1."""
    groups: int


def make_noise(targets: Targets, num_classes: int, generator: torch.Generator) -> Noise:
    """Noisy copies of all boxes, random by ``generator`` alone (of the targets' device)."""
    device = targets.boxes.device
    batch, rows = targets.labels.shape
    groups = max(1, QUERIES // (2 * rows))
    labels = targets.labels[:, None].expand(-1, 2 * groups, -1)  # (B, 2R, G)
    boxes = to_corners(targets.boxes)[:, None].expand(-1, 2 * groups, -1, -1)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator, device=device)

    wrong = (uniform(*labels.shape) * num_classes).long()
    labels = torch.where(uniform(*labels.shape) < WRONG_LABELS, wrong, labels)
    part = uniform(batch, groups, 2, rows, 4)
    part[:, :, 1] += 1  # negatives are further away than any positive
    sign = (uniform(*part.shape) < 0.5) * 2.0 - 1
    half = targets.boxes[..., 2:].repeat(1, 1, 2)[:, None] / 2  # (B, 1, G, 4)
    noise = (part * sign).flatten(1, 2) * half * BOX_NOISE
    noisy = to_centres((boxes + noise).clamp(0, 1))
    return Noise(labels.flatten(1), noisy.clamp(min=EPS).flatten(1, 2), groups)


def visible(matched: int, noise: Noise) -> Tensor:
    """(Q + X, Q + X) bool: which keys a query sees, of ``matched`` queries and then the noise."""
    device = noise.labels.device
    group_size = noise.labels.shape[1] // noise.groups
    group = torch.arange(noise.labels.shape[1], device=device) // group_size
    group = torch.cat((torch.full((matched,), -1, device=device), group))
    return (group[:, None] == group) | (group == -1)
