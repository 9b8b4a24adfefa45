"""The gradient of ``codetr::ms_deform_attn``; importing this registers it.

On a GPU, Triton kernels sample, both ways; elsewhere autograd goes through the plain body.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from codetr.deform_attn import locate, ms_deform_attn, sample


def _remember(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    del output
    *tensors, ctx.num_heads, ctx.num_points = inputs
    ctx.save_for_backward(*tensors)


def _backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
    """Gradients of value, sampling and reference, in this order; sizes have none.

    Positions and weights are computed again: they are six times as large as what they come from.
    """
    value, sampling, reference, level_sizes, valid_sizes = ctx.saved_tensors
    sampling, reference = (t.detach().requires_grad_() for t in (sampling, reference))
    levels, heads, points = level_sizes.shape[0], ctx.num_heads, ctx.num_points
    with torch.enable_grad():
        located = locate(sampling, reference, levels, valid_sizes, heads, points)
    sample_backward = _sample_backward_triton if value.is_cuda else _sample_backward
    positions, weights = (tensor.detach() for tensor in located)
    of_value, *of_located = sample_backward(
        gradient, value, positions, weights, level_sizes, valid_sizes
    )
    of_sampling, of_reference = torch.autograd.grad(located, (sampling, reference), of_located)
    return of_value.to(value.dtype), of_sampling, of_reference, None, None, None, None


def _sample_backward(
    gradient: Tensor,
    value: Tensor,
    positions: Tensor,
    weights: Tensor,
    level_sizes: Tensor,
    valid_sizes: Tensor,
) -> tuple[Tensor, ...]:
    value, positions, weights = inputs = tuple(
        tensor.detach().requires_grad_() for tensor in (value, positions, weights)
    )
    with torch.enable_grad():
        output = sample(value, positions, weights, level_sizes, valid_sizes)
    return torch.autograd.grad(output, inputs, gradient.to(output.dtype))


@torch.library.custom_op("codetr::sample_backward", mutates_args=())
def _sample_backward_triton(
    gradient: Tensor,
    value: Tensor,
    positions: Tensor,
    weights: Tensor,
    level_sizes: Tensor,
    valid_sizes: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """An operator of its own, so that torch.compile does not look into it."""
    from codetr.training import kernels

    return kernels.backward(gradient, value, positions, weights, level_sizes, valid_sizes)


@_sample_backward_triton.register_fake
def _(
    gradient: Tensor, value: Tensor, positions: Tensor, weights: Tensor, *_sizes: Tensor
) -> tuple[Tensor, ...]:
    del gradient
    return tuple(
        torch.empty_like(tensor, dtype=torch.float32, memory_format=torch.contiguous_format)
        for tensor in (value, positions, weights)
    )


ms_deform_attn.register_autograd(_backward, setup_context=_remember)


@ms_deform_attn.register_kernel("cuda")
def _(
    value: Tensor,
    sampling: Tensor,
    reference: Tensor,
    level_sizes: Tensor,
    valid_sizes: Tensor,
    num_heads: int,
    num_points: int,
) -> Tensor:
    from codetr.training import kernels

    positions, weights = locate(
        sampling, reference, level_sizes.shape[0], valid_sizes, num_heads, num_points
    )
    return kernels.forward(value, positions, weights, level_sizes, valid_sizes)
