"""Linear layers on random inputs: the tensors, the C struct and a float64 reference."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any

import torch

from tests.plugin.problems import TYPE_CODES

DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16}
ACTIVATIONS = {"none": 0, "gelu": 1}
ALGORITHMS = 8
"""``codetr::kLinearAlgorithms``."""
WORKSPACE = 32 << 20
"""``codetr::kLinearWorkspace``."""


class Struct(ctypes.Structure):
    """``codetr::Linear`` of plugin/csrc/linear.h."""

    _pointers = ("x", "weight", "bias", "residual", "output", "workspace")
    _numbers = ("type", "rows", "inputs", "outputs", "activation", "algorithm")
    _fields_ = [(name, ctypes.c_void_p) for name in _pointers] + [
        (name, ctypes.c_int32) for name in _numbers
    ]


@dataclass(frozen=True, kw_only=True)
class Problem:
    """``x`` (R, K), ``weight`` (N, K), ``bias`` (N), ``residual`` (R, N), of one half precision."""

    x: torch.Tensor
    weight: torch.Tensor
    bias: torch.Tensor
    residual: torch.Tensor | None
    activation: str

    def struct(self, output: torch.Tensor, workspace: torch.Tensor, algorithm: int = 0) -> Struct:
        """Valid as long as the tensors are."""
        tensors = (self.x, self.weight, self.bias, self.residual, output, workspace)
        pointers = (0 if tensor is None else tensor.data_ptr() for tensor in tensors)
        sizes = (*self.x.shape, len(self.weight))
        numbers = (TYPE_CODES[self.x.dtype], *sizes, ACTIVATIONS[self.activation], algorithm)
        return Struct(*pointers, *numbers)

    def empty_output(self) -> torch.Tensor:
        """Full of NaN, so that what is not written shows."""
        return self.x.new_full((len(self.x), len(self.weight)), torch.nan)


def make_problem(
    rows: int,
    inputs: int,
    outputs: int,
    *,
    activation: str = "none",
    adds: bool = False,
    dtype: torch.dtype = torch.float16,
    device: str = "cuda",
) -> Problem:
    """Random inputs with sums of about 1."""
    options: Any = {"generator": torch.Generator(device).manual_seed(0), "device": device}
    x = torch.randn(rows, inputs, **options)
    weight = torch.randn(outputs, inputs, **options) * inputs**-0.5
    bias = torch.randn(outputs, **options)
    residual = torch.randn(rows, outputs, **options).to(dtype) if adds else None
    tensors = {"x": x.to(dtype), "weight": weight.to(dtype), "bias": bias.to(dtype)}
    return Problem(**tensors, residual=residual, activation=activation)


def exact(problem: Problem) -> torch.Tensor:
    """(R, N) float64."""
    sums = problem.x.double() @ problem.weight.double().T + problem.bias.double()
    if problem.residual is not None:
        sums += problem.residual.double()
    if problem.activation == "gelu":
        return torch.nn.functional.gelu(sums, approximate="tanh")
    return sums
