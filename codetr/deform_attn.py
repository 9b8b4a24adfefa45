"""Multi-scale deformable attention (Deformable DETR, arXiv 2010.04159) as one fused operator.

The operator takes what the linear layers give: raw offsets, raw attention logits, values. Softmax,
sampling locations, bilinear sampling and the weighted sum happen inside, in float32. That is the
contract of the ONNX node and of the TensorRT plugin too; the body here is their reference.

Letters: B batch, S tokens of all levels, Q queries, C channels, M heads, D = C / M, L levels,
P points of each head on each level.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@torch.library.custom_op("codetr::ms_deform_attn", mutates_args=())
def ms_deform_attn(
    value: Tensor,
    sampling: Tensor,
    reference: Tensor,
    level_sizes: Tensor,
    valid_sizes: Tensor,
    num_heads: int,
    num_points: int,
) -> Tensor:
    """Sample every level around the reference points and sum by softmax weights.

    A sample outside the valid region of its level counts as zero, which is what the original gets
    by zeroing padded values first.

    Args:
        value: (B, S, C) float32, float16 or bfloat16; levels one after the other, row-major.
        sampling: (B, Q, M*L*P*3), same dtype; M*L*P offsets (x, y), then M*L*P logits.
            The offsets count cells of their level for points, 1/(2P) of the box for boxes.
        reference: (B or 1, Q, 2) points x, y or (B or 1, Q, 4) boxes cx, cy, w, h; float32,
            relative to the valid region.
        level_sizes: (L, 2) int32, height and width of each level.
        valid_sizes: (B or 1, L, 2) int32, the part of each level that is picture.
        num_heads: M.
        num_points: P.

    Returns:
        (B, Q, C), dtype of ``value``.
    """
    positions, weights = locate(
        sampling, reference, level_sizes.shape[0], valid_sizes, num_heads, num_points
    )
    return sample(value, positions, weights, level_sizes, valid_sizes).to(value.dtype)


def locate(
    sampling: Tensor,
    reference: Tensor,
    num_levels: int,
    valid_sizes: Tensor,
    num_heads: int,
    num_points: int,
) -> tuple[Tensor, Tensor]:
    """Where :func:`ms_deform_attn` samples, and how much every sample counts.

    Returns:
        (B, Q, M, L, P, 2) positions x, y in cells, the corner of the level being 0, and
        (B, Q, M, L, P) weights that sum to one over L and P.
    """
    shape = (*sampling.shape[:2], num_heads, num_levels, num_points)
    samples = num_heads * num_levels * num_points
    # float32, or float64 where the operator's gradient is checked.
    exact = torch.promote_types(sampling.dtype, torch.float32)
    offsets, logits = sampling.to(exact).split([2 * samples, samples], dim=-1)
    weights = logits.view(*shape[:3], -1).softmax(-1)  # (B, Q, M, L*P)
    return _positions(offsets.view(*shape, 2), reference, valid_sizes), weights.view(shape)


def sample(
    value: Tensor, positions: Tensor, weights: Tensor, level_sizes: Tensor, valid_sizes: Tensor
) -> Tensor:
    """(B, Q, C) in the type of ``positions``: the weighted sum of bilinear samples."""
    batch, _, channels = value.shape
    queries, num_heads = positions.shape[1:3]
    value = value.to(positions.dtype)
    output = positions.new_zeros(())
    start = 0
    for level, (height, width) in enumerate(level_sizes.tolist()):
        plane = value[:, start : start + height * width]
        plane = plane.view(batch, height, width, channels)
        plane = _zero_padding(plane, valid_sizes[:, level])
        plane = plane.view(batch, height, width, num_heads, -1)
        plane = plane.permute(0, 3, 4, 1, 2).flatten(0, 1)  # (B*M, D, h, w)
        grid = 2 * positions[:, :, :, level] / positions.new_tensor([width, height]) - 1
        grid = grid.transpose(1, 2).flatten(0, 1)  # (B*M, Q, P, 2)
        sampled = F.grid_sample(plane, grid, align_corners=False)  # (B*M, D, Q, P)
        weight = weights[:, :, :, level].transpose(1, 2).flatten(0, 1)  # (B*M, Q, P)
        output = output + (sampled * weight[:, None]).sum(-1)  # (B*M, D, Q)
        start += height * width
    output = output.view(batch, channels, queries)
    return output.transpose(1, 2).contiguous()


def _positions(offsets: Tensor, reference: Tensor, valid_sizes: Tensor) -> Tensor:
    valid = valid_sizes.flip(-1).float()[:, None, None, :, None]  # (B, 1, 1, L, 1, 2) as w, h
    reference = reference[:, :, None, None, None]  # (B, Q, 1, 1, 1, 2 or 4)
    centre = reference[..., :2] * valid
    if reference.shape[-1] == 2:
        return centre + offsets
    return centre + offsets / offsets.shape[-2] * (reference[..., 2:] * valid) * 0.5


def _zero_padding(plane: Tensor, valid_size: Tensor) -> Tensor:
    """Zero (B, h, w, C) outside the top-left region of (B or 1, 2) ``valid_size``."""
    rows = torch.arange(plane.shape[1], device=plane.device)[None, :, None, None]
    columns = torch.arange(plane.shape[2], device=plane.device)[None, None, :, None]
    height, width = valid_size[:, :, None, None, None].unbind(1)  # each (B, 1, 1, 1)
    return torch.where((rows < height) & (columns < width), plane, 0)


@ms_deform_attn.register_fake
def _(
    value: Tensor,
    sampling: Tensor,
    reference: Tensor,
    level_sizes: Tensor,
    valid_sizes: Tensor,
    num_heads: int,
    num_points: int,
) -> Tensor:
    return value.new_empty(value.shape[0], sampling.shape[1], value.shape[2])


class MSDeformAttn(nn.Module):
    """Projections around :func:`ms_deform_attn` (mmcv ``MultiScaleDeformableAttention``)."""

    def __init__(self, channels: int, num_heads: int, num_levels: int, num_points: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.num_points = num_points
        # Offsets (x, y) and logits in one product: 256 -> 480 for 8 heads, 5 levels, 4 points.
        self.sampling = nn.Linear(channels, num_heads * num_levels * num_points * 3)
        self.value_proj = nn.Linear(channels, channels)
        self.output_proj = nn.Linear(channels, channels)

    def forward(
        self,
        query: Tensor,
        value: Tensor,
        reference: Tensor,
        level_sizes: Tensor,
        valid_sizes: Tensor,
    ) -> Tensor:
        """(B, Q, C) from ``query`` (B, Q, C) and ``value`` (B, S, C); no residual is added."""
        sampled: Tensor = ms_deform_attn(
            self.value_proj(value),
            self.sampling(query),
            reference,
            level_sizes,
            valid_sizes,
            self.num_heads,
            self.num_points,
        )
        return self.output_proj(sampled)
