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

    _pointers = ("x", "added", "weight", "bias", "output", "quantised", "inverse_scale")
    _numbers = ("type", "output_type", "rows", "channels", "merged_width")
    _fields_ = [(name, ctypes.c_void_p) for name in _pointers] + [
        (name, ctypes.c_int32) for name in _numbers
    ]


@dataclass(frozen=True, kw_only=True)
class Problem:
    """Inputs of a norm."""

    x: torch.Tensor
    """(R, C), or a map (B, H, W, C/4) whose neighbours are merged."""
    weight: torch.Tensor
    """(C,) float32."""
    bias: torch.Tensor
    """(C,) float32."""
    added: torch.Tensor | None = None
    """(R, C)."""
    inverse_scale: torch.Tensor | None = None
    """(1,) float32: of what is quantised beside the output."""

    def to(self, dtype: torch.dtype, device: str = "cpu") -> Problem:
        """The rows in ``dtype``, everything on ``device``."""
        parameters = {name: getattr(self, name).to(device) for name in ("weight", "bias")}
        added = None if self.added is None else self.added.to(device, dtype)
        scale = None if self.inverse_scale is None else self.inverse_scale.to(device)
        x = self.x.to(device, dtype)
        return replace(self, x=x, added=added, inverse_scale=scale, **parameters)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and channels of the output."""
        channels = len(self.weight)
        return self.x.numel() // channels, channels

    def struct(self, output: torch.Tensor, quantised: torch.Tensor | None = None) -> Struct:
        """Valid as long as the tensors are."""
        tensors = (self.x, self.added, self.weight, self.bias, output)
        tensors += (quantised, self.inverse_scale)
        pointers = (0 if tensor is None else tensor.data_ptr() for tensor in tensors)
        types = (TYPE_CODES[self.x.dtype], TYPE_CODES[output.dtype])
        merged_width = self.x.shape[2] // 2 if self.x.ndim == 4 else 0
        return Struct(*pointers, *types, *self.shape, merged_width)


def make_problem(rows: int, channels: int, *, mean: float = 0.0, device: str = "cpu") -> Problem:
    """Random inputs in float32, every row with a mean and a spread of its own."""
    options: Any = {"generator": torch.Generator(device).manual_seed(0), "device": device}
    x = torch.randn(rows, channels, **options) * (1 + torch.rand(rows, 1, **options))
    x += torch.randn(rows, 1, **options) + mean
    weight, bias = torch.randn(2, channels, **options)
    return Problem(x=x, weight=weight, bias=bias)


def make_sum(rows: int, channels: int) -> Problem:
    """The same with a tensor that is added."""
    problem = make_problem(rows, channels)
    return replace(problem, added=problem.x.flip(0, 1) * 0.7)


def make_quantised(rows: int, channels: int) -> Problem:
    """The same as ``make_problem``'s, quantised too; some are above the largest value of fp8."""
    problem = make_problem(rows, channels)
    return replace(problem, inverse_scale=torch.tensor([200.0]))


def make_map(batch: int, height: int, width: int, channels: int) -> Problem:
    """A map whose neighbours are merged to rows of ``channels``."""
    problem = make_problem(batch * height * width // 4, channels)
    return replace(problem, x=problem.x.reshape(batch, height, width, channels // 4))


def exact(problem: Problem) -> torch.Tensor:
    """(R, C) float64."""
    x, weight, bias = (tensor.double() for tensor in (problem.x, problem.weight, problem.bias))
    if problem.added is not None:
        x = x + problem.added.double()
    if x.ndim == 4:
        parts = [x[:, row::2, column::2] for row in (0, 1) for column in (0, 1)]
        x = torch.cat(parts, dim=-1).flatten(0, 2)
    return torch.nn.functional.layer_norm(x, weight.shape, weight, bias, eps=EPSILON)
