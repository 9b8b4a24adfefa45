"""Layer normalisation on random inputs: the tensors, the C struct and a float64 reference."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass, replace
from typing import Any

import torch

from tests.plugin.problems import TYPE_CODES

EPSILON = 1e-5


class Struct(ctypes.Structure):
    """``codetr::LayerNorm`` of plugin/csrc/layer_norm.h."""

    _pointers = ("x", "weight", "bias", "output")
    _numbers = ("type", "output_type", "rows", "channels")
    _fields_ = [(name, ctypes.c_void_p) for name in _pointers] + [
        (name, ctypes.c_int32) for name in _numbers
    ]


@dataclass(frozen=True, kw_only=True)
class Problem:
    """Inputs of a norm."""

    x: torch.Tensor
    """(R, C)."""
    weight: torch.Tensor
    """(C,) float32."""
    bias: torch.Tensor
    """(C,) float32."""

    def to(self, dtype: torch.dtype, device: str = "cpu") -> Problem:
        """The rows in ``dtype``, everything on ``device``."""
        parameters = {name: getattr(self, name).to(device) for name in ("weight", "bias")}
        return replace(self, x=self.x.to(device, dtype), **parameters)

    def struct(self, output: torch.Tensor) -> Struct:
        """Valid as long as the tensors are."""
        pointers = (tensor.data_ptr() for tensor in (self.x, self.weight, self.bias, output))
        types = (TYPE_CODES[self.x.dtype], TYPE_CODES[output.dtype])
        return Struct(*pointers, *types, *self.x.shape)


def make_problem(rows: int, channels: int, *, mean: float = 0.0, device: str = "cpu") -> Problem:
    """Random inputs in float32, every row with a mean and a spread of its own."""
    options: Any = {"generator": torch.Generator(device).manual_seed(0), "device": device}
    x = torch.randn(rows, channels, **options) * (1 + torch.rand(rows, 1, **options))
    x += torch.randn(rows, 1, **options) + mean
    weight, bias = torch.randn(2, channels, **options)
    return Problem(x=x, weight=weight, bias=bias)


def exact(problem: Problem) -> torch.Tensor:
    """(R, C) float64."""
    weight, bias = problem.weight.double(), problem.bias.double()
    return torch.nn.functional.layer_norm(
        problem.x.double(), weight.shape, weight, bias, eps=EPSILON
    )
