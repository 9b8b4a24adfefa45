"""Deformable attention on random inputs: the tensors, the C struct and a float64 reference."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
FLOAT8 = torch.float8_e4m3fn
TYPE_CODES = {torch.float32: 0, torch.float16: 1, torch.bfloat16: 2, FLOAT8: 3}


class Struct(ctypes.Structure):
    """``codetr::MsDeformAttn`` of plugin/csrc/ms_deform_attn.h."""

    _pointers = ("value", "sampling", "reference", "level_sizes", "valid_sizes", "output")
    _numbers = (
        *("type", "batch", "tokens", "queries", "channels", "heads", "levels", "points"),
        *("reference_batch", "reference_size", "valid_batch"),
    )
    _fields_ = [(name, ctypes.c_void_p) for name in _pointers] + [
        (name, ctypes.c_int32) for name in _numbers
    ]


@dataclass(frozen=True, kw_only=True)
class Problem:
    """Inputs of ``codetr.deform_attn.ms_deform_attn``, which says what they are."""

    value: torch.Tensor
    sampling: torch.Tensor
    reference: torch.Tensor
    level_sizes: torch.Tensor
    valid_sizes: torch.Tensor
    heads: int
    points: int

    def to(self, dtype: torch.dtype, device: str = "cpu") -> Problem:
        """Value and sampling in ``dtype``, everything on ``device``."""
        return replace(
            self,
            value=self.value.to(device, dtype),
            sampling=self.sampling.to(device, dtype),
            reference=self.reference.to(device),
            level_sizes=self.level_sizes.to(device),
            valid_sizes=self.valid_sizes.to(device),
        )

    def struct(self, output: torch.Tensor) -> Struct:
        """Valid as long as the tensors are."""
        batch, tokens, channels = self.value.shape
        return Struct(
            *(getattr(self, name).data_ptr() for name in Struct._pointers[:5]),
            output.data_ptr(),
            TYPE_CODES[self.value.dtype],
            batch,
            tokens,
            self.sampling.shape[1],
            channels,
            self.heads,
            len(self.level_sizes),
            self.points,
            self.reference.shape[0],
            self.reference.shape[2],
            self.valid_sizes.shape[0],
        )

    def empty_output(self) -> torch.Tensor:
        """Full of NaN, so that what is not written shows."""
        shape = (self.value.shape[0], self.sampling.shape[1], self.value.shape[2])
        return self.value.new_full(shape, torch.nan)


def make_problem(
    sizes: Sequence[tuple[int, int]],
    *,
    valid: Sequence[Sequence[tuple[int, int]]] | None = None,
    batch: int = 1,
    queries: int | None = None,
    box: bool = False,
    heads: int = 8,
    channels: int = 256,
    points: int = 4,
    shared_reference: bool = False,
    spread: float = 3.0,
    device: str = "cpu",
) -> Problem:
    """Random inputs in float32; ``valid`` is (B or 1) lists of sizes, ``queries=None`` all cells.

    Offsets are normal with ``spread`` cells, references lie on and around the picture.
    """
    random = torch.Generator(device).manual_seed(0)
    options: Any = {"generator": random, "device": device}
    tokens = sum(height * width for height, width in sizes)
    queries = tokens if queries is None else queries
    samples = heads * len(sizes) * points
    sampling = torch.randn(batch, queries, samples * 3, **options)
    sampling[..., : 2 * samples] *= spread
    rows = 1 if shared_reference else batch
    reference = torch.rand(rows, queries, 4 if box else 2, **options) * 1.2 - 0.1
    if box:
        reference[..., 2:] = reference[..., 2:].abs() * 0.5
    return Problem(
        value=torch.randn(batch, tokens, channels, **options),
        sampling=sampling,
        reference=reference,
        level_sizes=torch.tensor(sizes, dtype=torch.int32, device=device),
        valid_sizes=torch.tensor(valid or [sizes], dtype=torch.int32, device=device),
        heads=heads,
        points=points,
    )


def exact(problem: Problem) -> torch.Tensor:
    """What the operator is, in float64 from the inputs as they are; (B, Q, C).

    Written apart from ``codetr/deform_attn.py``: a corner is gathered if it is inside the valid
    region, and nothing is padded.
    """
    batch, _, channels = problem.value.shape
    heads, points = problem.heads, problem.points
    queries, levels = problem.sampling.shape[1], len(problem.level_sizes)
    split = 2 * heads * levels * points
    sampling = problem.sampling.double()
    offsets = sampling[..., :split].view(batch, queries, heads, levels, points, 2)
    weights = sampling[..., split:].view(batch, queries, heads, -1).softmax(-1)
    weights = weights.view(batch, queries, heads, levels, points)
    reference = problem.reference.double()[:, :, None, None]  # (B or 1, Q, 1, 1, 2 or 4)
    value = problem.value.double().view(batch, -1, heads, channels // heads).transpose(1, 2)
    output, start = value.new_zeros(()), 0
    for level, (height, width) in enumerate(problem.level_sizes.tolist()):
        valid = problem.valid_sizes[:, level].flip(-1)[:, None, None, None]  # (B or 1, …) w, h
        offset = offsets[:, :, :, level]
        if reference.shape[-1] == 4:
            offset = offset / points * reference[..., 2:] * valid * 0.5
        position = reference[..., :2] * valid + offset - 0.5  # (B, Q, M, P, 2)
        corner = position.floor()
        for step in ((0, 0), (0, 1), (1, 0), (1, 1)):
            cell = corner + corner.new_tensor(step)
            share = (1 - (position - cell).abs()).prod(-1) * weights[:, :, :, level]
            inside = ((cell >= 0) & (cell < valid)).all(-1)
            x, y = cell.nan_to_num().long().unbind(-1)
            token = start + y.clamp(0, height - 1) * width + x.clamp(0, width - 1)
            token = token.transpose(1, 2).flatten(2)[..., None]  # (B, M, Q*P, 1)
            found = value.gather(2, token.expand(-1, -1, -1, channels // heads))
            share = (share * inside).transpose(1, 2).flatten(2)[..., None]
            output = output + (found * share).view(batch, heads, queries, points, -1).sum(3)
        start += height * width
    return output.transpose(1, 2).flatten(2)


def error_in_ulps(output: torch.Tensor, expected: torch.Tensor) -> float:
    """Largest error of ``output`` in units in the last place of ``expected`` in its type.

    Near zero, where sums cancel, the unit is that of the typical size of an output.
    """
    ulp = torch.finfo(output.dtype).eps * torch.exp2(expected.abs().log2().floor())
    floor = torch.finfo(output.dtype).eps * torch.exp2(expected.std().log2().floor())
    return ((output.double() - expected).abs() / ulp.clamp(min=floor)).max().item()


def assert_rounded_to_fp8(
    output: torch.Tensor, expected: torch.Tensor, error: float = 1e-3
) -> None:
    """Whether ``output`` of float8 is what float64 rounds to, if that is off by ``error`` of itself
    and by as much at most."""
    lowest, highest = (
        (expected + sign * error * (1 + expected.abs())).clamp(-448, 448).to(FLOAT8).float()
        for sign in (-1, 1)
    )
    assert ((output.float() >= lowest) & (output.float() <= highest)).all()  # not of a NaN
