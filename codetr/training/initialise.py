"""First weights, as the papers have them: Swin, Deformable DETR, focal loss."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from codetr.deform_attn import MSDeformAttn
from codetr.model import CoDino
from codetr.swin import Swin, WindowAttention

SWIN_STD = 0.02
PRIOR = 0.01
"""Probability that a class score starts with, so that the many negatives start nearly right."""


def initialise(model: CoDino, generator: torch.Generator) -> None:
    """Set every weight of a new model, on the CPU and by ``generator`` alone."""
    model.apply(lambda module: _set_layer(module, generator))
    if isinstance(model.backbone, Swin):
        model.backbone.apply(lambda module: _set_swin(module, generator))
    for module in model.modules():
        if isinstance(module, MSDeformAttn):
            _set_sampling(module)
    for head in model.cls_branches:
        set_prior(head)
    for head in model.reg_branches:
        set_zero(head.get_submodule("4"))  # the last layer of the box head
    nn.init.normal_(model.level_embeds, generator=generator)
    nn.init.normal_(model.query_embed, generator=generator)


def set_prior(head: nn.Module) -> None:
    """Start a class head's scores at ``PRIOR``."""
    nn.init.constant_(head.bias, -math.log((1 - PRIOR) / PRIOR))  # type: ignore[arg-type]


def set_zero(layer: nn.Module) -> None:
    """Start a layer as the function that gives zero."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)


def _set_layer(module: nn.Module, generator: torch.Generator) -> None:
    if isinstance(module, nn.Linear | nn.Conv2d):
        nn.init.xavier_uniform_(module.weight, generator=generator)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def _set_swin(module: nn.Module, generator: torch.Generator) -> None:
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=SWIN_STD, generator=generator)
    elif isinstance(module, WindowAttention):
        table = module.relative_position_bias_table
        nn.init.trunc_normal_(table, std=SWIN_STD, generator=generator)


def _set_sampling(attention: MSDeformAttn) -> None:
    """Each head looks in a direction of its own, each point one cell further; equal weights."""
    heads, points = attention.num_heads, attention.num_points
    weight, bias = attention.sampling.weight, attention.sampling.bias
    levels = len(bias) // (heads * points * 3)
    angle = torch.arange(heads) * (2 * math.pi / heads)
    direction = torch.stack((angle.cos(), angle.sin()), dim=-1)  # (M, 2)
    direction = direction / direction.abs().amax(-1, keepdim=True)  # onto the square
    distance = torch.arange(1, points + 1.0)
    offsets: Tensor = direction[:, None, None] * distance[:, None]  # (M, 1, P, 2)
    offsets = offsets.expand(-1, levels, -1, -1).flatten()  # (M*L*P*2,)
    nn.init.zeros_(weight)
    nn.init.zeros_(bias)
    with torch.no_grad():
        bias[: len(offsets)] = offsets
