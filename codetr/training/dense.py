"""Which tokens answer for which boxes: the dense head's assignment, one box to many tokens.

As in FCOS (arXiv 1904.01355): tokens near the centre, on the level that suits the box's size.

Letters: B batch, S tokens of all levels, G boxes of a picture at most.
"""

from __future__ import annotations

import torch
from torch import Tensor

from codetr.model import Encoded
from codetr.training.matching import Pairs
from codetr.training.targets import Targets

RADIUS = 1.5
"""Cells between a token's centre and the box's, in each direction, at most."""
FINEST_SIDE = 16.0
"""Boxes with a side (square root of the area) below twice this many pixels belong to level 0;
each further level holds sides up to twice as large."""


def assign_tokens(encoded: Encoded, targets: Targets) -> tuple[Pairs, Tensor]:
    """Tokens that answer for boxes, and (B, S) bool: tokens that lie inside their picture.

    A token near several boxes takes the smallest.
    """
    geometry, reference = encoded.geometry, encoded.reference
    lengths = torch.tensor([h * w for h, w in geometry.sizes], device=reference.device)
    level = torch.arange(len(lengths), device=reference.device)
    level = level.repeat_interleave(lengths, output_size=reference.shape[1])  # (S,)
    picture = geometry.picture_sizes.flip(-1)[:, None]  # (B, 1, 2) as w, h
    size = targets.boxes[..., 2:]  # (B, G, 2)
    area = (size * picture).prod(-1)  # (B, G) in pixels
    wanted = (area.clamp(min=1).sqrt() / FINEST_SIDE).log2().floor()
    wanted = wanted.clamp(0, len(lengths) - 1)  # (B, G)

    offset = (reference[:, :, None] - targets.boxes[:, None, :, :2]).abs()  # (B, S, G, 2)
    cells = geometry.valid_sizes.flip(-1)[:, level, None]  # (B, S, 1, 2) as w, h
    near = (offset * cells < RADIUS).all(-1) & (offset < size[:, None] / 2).all(-1)
    inside = (reference < 1).all(-1)  # (B or 1, S)
    near &= (level[:, None] == wanted[:, None]) & targets.present()[:, None] & inside[..., None]
    smallest: Tensor = torch.where(near, area[:, None], torch.inf).argmin(-1)  # (B, S)
    picture_index, token = torch.nonzero(near.any(-1)).unbind(1)
    pairs = Pairs(torch.zeros_like(token), picture_index, token, smallest[picture_index, token])
    return pairs, inside
