"""Window attention on random inputs: the tensors, the C struct and a float64 reference."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass, replace
from typing import Any

import torch

from tests.plugin.problems import TYPE_CODES

HEAD_CHANNELS = 32
DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16}
LIMITS = {"fp16": 6e-3, "bf16": 5e-2}
"""Of errors: outputs are of about 1, weights are rounded to the type."""


class Struct(ctypes.Structure):
    """``codetr::WindowAttn`` of plugin/csrc/window_attn.h."""

    _pointers = ("qkv", "padding", "bias", "inverse_scale", "output")
    _numbers = ("type", "batch", "height", "width", "heads", "window", "shift", "add_bias")
    _fields_ = [(name, ctypes.c_void_p) for name in _pointers] + [
        (name, ctypes.c_int32) for name in _numbers
    ]


@dataclass(frozen=True, kw_only=True)
class Problem:
    """Inputs of ``codetr.window_attn.window_attention``, which says what they are.

    With ``add_bias``, ``qkv`` is without its bias, which is ``padding``.
    """

    qkv: torch.Tensor
    padding: torch.Tensor
    bias: torch.Tensor
    window: int
    shift: int
    add_bias: bool = False

    def to(self, dtype: torch.dtype, device: str = "cpu") -> Problem:
        """Everything in ``dtype`` on ``device``."""
        tensors = {name: getattr(self, name).to(device, dtype) for name in Struct._pointers[:3]}
        return replace(self, **tensors)

    def struct(self, output: torch.Tensor, inverse_scale: torch.Tensor | None = None) -> Struct:
        """Valid as long as the tensors are; the scale is of an output in float8."""
        tensors = (self.qkv, self.padding, self.bias, inverse_scale, output)
        pointers = (0 if tensor is None else tensor.data_ptr() for tensor in tensors)
        sizes = (*self.qkv.shape[:3], len(self.bias), self.window, self.shift, self.add_bias)
        return Struct(*pointers, TYPE_CODES[self.qkv.dtype], *sizes)

    @property
    def windows(self) -> int:
        """In all maps."""
        batch, height, width, _ = self.qkv.shape
        return batch * -(-height // self.window) * -(-width // self.window)

    def empty_output(self) -> torch.Tensor:
        """Full of NaN, so that what is not written shows."""
        channels = HEAD_CHANNELS * len(self.bias)
        return self.qkv.new_full((*self.qkv.shape[:3], channels), torch.nan)


def make_problem(
    size: tuple[int, int],
    *,
    window: int = 12,
    shift: int = 0,
    heads: int = 2,
    batch: int = 1,
    device: str = "cpu",
    add_bias: bool = False,
) -> Problem:
    """Random inputs in float32 with logits of about ±6: a few rows have one weight near 1."""
    options: Any = {"generator": torch.Generator(device).manual_seed(0), "device": device}
    channels = HEAD_CHANNELS * heads
    qkv = torch.randn(batch, *size, 3 * channels, **options)
    padding = torch.randn(3 * channels, **options)
    qkv[..., :channels] *= 1.5
    padding[:channels] *= 1.5
    bias = 1.5 * torch.randn(heads, window**2, window**2, **options)
    return Problem(
        qkv=qkv, padding=padding, bias=bias, window=window, shift=shift, add_bias=add_bias
    )


def exact(problem: Problem) -> torch.Tensor:
    """(B, H, W, C) float64.

    Written apart from ``codetr/window_attn.py``: every token of every window is looked up in the
    map, and nothing is padded, rolled or cut.
    """
    size, shift, heads = problem.window, problem.shift, len(problem.bias)
    batch, height, width, _ = problem.qkv.shape
    rows, columns = -(-height // size), -(-width // size)
    y, end_y = _sources(rows, size, shift, problem.qkv.device)
    x, end_x = _sources(columns, size, shift, problem.qkv.device)
    y, x, end_y, end_x = (
        tensor.expand(rows, columns, size, size).reshape(rows * columns, -1)  # (windows, N)
        for tensor in (
            *(y[:, None, :, None], x[None, :, None, :]),
            *(end_y[:, None, :, None], end_x[None, :, None, :]),
        )
    )
    part = 2 * end_y.int() + end_x.int()
    mask = torch.where(part[:, :, None] != part[:, None, :], -100.0, 0.0).double()
    inside = (y < height) & (x < width)
    index = torch.where(inside, y * width + x, height * width)  # padding comes after the map
    padding = problem.padding.expand(batch, 1, -1)
    tokens = torch.cat((_with_bias(problem).flatten(1, 2), padding.double()), dim=1)
    output = tokens.new_zeros(batch, height * width + 1, HEAD_CHANNELS * heads)
    for picture, map_tokens in enumerate(tokens):
        for window, own_mask in zip(index, mask, strict=True):
            qkv = map_tokens[window].view(size**2, 3, heads, HEAD_CHANNELS)
            query, key, value = qkv.permute(1, 2, 0, 3)  # each (M, N, 32)
            logits = query @ key.transpose(1, 2) * HEAD_CHANNELS**-0.5
            weights = (logits + problem.bias.double() + own_mask).softmax(-1)
            output[picture, window] = (weights @ value).transpose(0, 1).flatten(1)
    return output[:, :-1].view(batch, height, width, -1)


def _with_bias(problem: Problem) -> torch.Tensor:
    """(B, H, W, 3C) float64; sums of queries are rounded to the type, as any product's would be."""
    if not problem.add_bias:
        return problem.qkv.double()
    total = problem.qkv.double() + problem.padding.double()
    queries = total.shape[-1] // 3
    total[..., :queries] = total[..., :queries].to(problem.qkv.dtype).double()
    return total


def _sources(
    windows: int, size: int, shift: int, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """(windows, size): where a window's tokens lie on the padded map, and which the roll moved
    there from the other end."""
    place = torch.arange(windows * size, device=device)
    moved = place >= windows * size - shift
    return ((place + shift) % len(place)).view(windows, size), moved.view(windows, size)
