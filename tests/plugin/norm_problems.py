"""Group normalisation on random inputs: the tensors, the C struct and a float64 reference."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass, replace
from typing import Any

import torch

from codetr.group_norm import EPSILON
from tests.plugin.problems import TYPE_CODES

DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16}


class Struct(ctypes.Structure):
    """``codetr::GroupNorm`` of plugin/csrc/group_norm.h."""

    _pointers = ("x", "weight", "bias", "output", "workspace")
    _numbers = ("type", "batch", "height", "width", "channels", "groups")
    _fields_ = [(name, ctypes.c_void_p) for name in _pointers] + [
        (name, ctypes.c_int32) for name in _numbers
    ]


@dataclass(frozen=True, kw_only=True)
class Problem:
    """Inputs of ``codetr.group_norm.group_norm``, which says what they are."""

    x: torch.Tensor
    weight: torch.Tensor
    bias: torch.Tensor
    groups: int

    def to(self, dtype: torch.dtype, device: str = "cpu") -> Problem:
        """The map in ``dtype``, everything on ``device``."""
        parameters = {name: getattr(self, name).to(device) for name in ("weight", "bias")}
        return replace(self, x=self.x.to(device, dtype), **parameters)

    def struct(self, output: torch.Tensor, workspace: torch.Tensor) -> Struct:
        """Valid as long as the tensors are."""
        tensors = (self.x, self.weight, self.bias, output, workspace)
        pointers = (tensor.data_ptr() for tensor in tensors)
        return Struct(*pointers, TYPE_CODES[self.x.dtype], *self.x.shape, self.groups)

    def empty_output(self) -> torch.Tensor:
        """Full of NaN, so that what is not written shows."""
        return torch.full_like(self.x, torch.nan)


def make_problem(
    size: tuple[int, int],
    *,
    batch: int = 1,
    channels: int = 256,
    groups: int = 32,
    mean: float = 0.0,
    device: str = "cpu",
) -> Problem:
    """Random inputs in float32, every picture and channel with a mean of its own."""
    options: Any = {"generator": torch.Generator(device).manual_seed(0), "device": device}
    x = torch.randn(batch, *size, channels, **options)
    x += torch.randn(batch, 1, 1, channels, **options) + mean
    weight, bias = torch.randn(2, channels, **options)
    return Problem(x=x, weight=weight, bias=bias, groups=groups)


def exact(problem: Problem) -> torch.Tensor:
    """(B, H, W, C) float64, by PyTorch's own norm, which has channels second."""
    x = problem.x.double().permute(0, 3, 1, 2)
    weight, bias = problem.weight.double(), problem.bias.double()
    y = torch.nn.functional.group_norm(x, problem.groups, weight, bias, EPSILON)
    return y.permute(0, 2, 3, 1)
