"""Linear layers on random inputs: the tensors, the C struct and a float64 reference."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass, replace
from typing import Any

import torch

from tests.plugin.problems import FLOAT8, TYPE_CODES

DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16}
ACTIVATIONS = {"none": 0, "gelu": 1, "relu": 2}
ALGORITHMS = 8
"""``codetr::kLinearAlgorithms``."""
WORKSPACE = 32 << 20
"""``codetr::kLinearWorkspace``."""


class Struct(ctypes.Structure):
    """``codetr::Linear`` of plugin/csrc/linear.h."""

    _pointers = (
        *("x", "weight", "bias", "residual"),
        *("x_scale", "weight_scale", "inverse_scale", "output", "workspace"),
    )
    _numbers = (
        *("type", "factors", "output_type"),
        *("rows", "inputs", "outputs", "activation", "algorithm"),
    )
    _fields_ = [(name, ctypes.c_void_p) for name in _pointers] + [
        (name, ctypes.c_int32) for name in _numbers
    ]


@dataclass(frozen=True, kw_only=True)
class Problem:
    """``x`` (R, K), ``weight`` (N, K), ``bias`` (N), ``residual`` (R, N), of one half precision.

    Or ``x`` and ``weight`` of float8; then there are their scales, (1,) float32, and that of the
    output, inverted, if it is of float8 too.
    """

    x: torch.Tensor
    weight: torch.Tensor
    bias: torch.Tensor
    residual: torch.Tensor | None
    activation: str
    x_scale: torch.Tensor | None = None
    weight_scale: torch.Tensor | None = None
    inverse_scale: torch.Tensor | None = None

    def struct(self, output: torch.Tensor, workspace: torch.Tensor, algorithm: int = 0) -> Struct:
        """Valid as long as the tensors are."""
        tensors = (self.x, self.weight, self.bias, self.residual)
        tensors += (self.x_scale, self.weight_scale, self.inverse_scale, output, workspace)
        pointers = (0 if tensor is None else tensor.data_ptr() for tensor in tensors)
        types = (TYPE_CODES[tensor.dtype] for tensor in (self.bias, self.x, output))
        sizes = (*self.x.shape, len(self.weight))
        return Struct(*pointers, *types, *sizes, ACTIVATIONS[self.activation], algorithm)

    def empty_output(self) -> torch.Tensor:
        """Full of NaN, so that what is not written shows."""
        dtype = self.bias.dtype if self.inverse_scale is None else FLOAT8
        shape = (len(self.x), len(self.weight))
        return torch.full(shape, torch.nan, device=self.x.device).to(dtype)


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


def make_fp8_problem(
    rows: int,
    inputs: int,
    outputs: int,
    *,
    activation: str = "none",
    adds: bool = False,
    to_fp8: bool = False,
    device: str = "cuda",
) -> Problem:
    """The same with factors of float8: the largest is near its largest value."""
    plain = make_problem(rows, inputs, outputs, activation=activation, adds=adds, device=device)
    scales = {"x_scale": plain.x, "weight_scale": plain.weight}
    scales = {name: tensor.abs().max().float().view(1) / 448 for name, tensor in scales.items()}
    if to_fp8:
        scales["inverse_scale"] = torch.tensor([448 / 8.0], device=device)  # most are below 8
    x, weight = plain.x / scales["x_scale"], plain.weight / scales["weight_scale"]
    return replace(plain, x=x.to(FLOAT8), weight=weight.to(FLOAT8), **scales)


def exact(problem: Problem) -> torch.Tensor:
    """(R, N) float64; before it is rounded to float8, where it is."""
    x, weight = problem.x.double(), problem.weight.double()
    if problem.x_scale is not None and problem.weight_scale is not None:
        x, weight = x * problem.x_scale, weight * problem.weight_scale
    sums = x @ weight.T + problem.bias.double()
    if problem.residual is not None:
        sums += problem.residual.double()
    if problem.activation == "gelu":
        sums = torch.nn.functional.gelu(sums, approximate="tanh")
    elif problem.activation == "relu":
        sums = sums.relu()
    if problem.inverse_scale is not None:
        sums = (sums * problem.inverse_scale).clamp(-448, 448)
    return sums
