"""Times the kernel of window attention beside PyTorch, on a GPU.

Build it first: ``python -m plugin build --tests``. The calls are those of Swin-L's four stages.
What is timed is all between ``qkv`` and ``proj``; PyTorch has bias and mask summed up beforehand.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from benchmarks.kernel import SIZES, launcher, run, time_calls

if TYPE_CHECKING:
    import argparse

    from torch import Tensor

    from tests.plugin.window_problems import Problem

_STRIDES = (4, 8, 16, 32)
_HEADS = (6, 12, 24, 48)
_WINDOW = 12


def main() -> int:
    """Run the command; returns the exit code."""
    description = "Time window attention: our kernel beside PyTorch's scaled_dot_product_attention."
    return run("window_attn", description, ("fp16", "bf16"), _measure)


def _measure(args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """A row for each stage, shift, type and contender."""
    from tests.plugin.window_problems import DTYPES, make_problem

    for (height, width), stage, shift, dtype in itertools.product(
        SIZES, range(4), (0, _WINDOW // 2), args.dtypes
    ):
        size = (-(-height // _STRIDES[stage]), -(-width // _STRIDES[stage]))
        problem = make_problem(
            size, window=_WINDOW, shift=shift, heads=_HEADS[stage], device="cuda"
        ).to(DTYPES[dtype], "cuda")
        contenders = {
            "plugin": launcher(args, "codetr_window_attn", problem),
            "pytorch-sdpa": _pytorch(problem),
        }
        for name, contender in contenders.items():
            yield {
                "kernel": "window_attn",
                "contender": name,
                "call": f"stage {stage}{', shifted' if shift else ''}",
                "height": height,
                "width": width,
                "dtype": dtype,
                "us": time_calls(contender, args.iterations),
            }


def _pytorch(problem: Problem) -> Callable[[], Tensor]:
    """The fastest that PyTorch has for it: one kernel between copies of the map."""
    import torch.nn.functional as F

    from codetr.window_attn import merge_windows, pad_map, partition_windows, shift_mask

    _, height, width, _ = problem.qkv.shape
    size, shift, heads = problem.window, problem.shift, len(problem.bias)
    mask = problem.bias[None]  # (1 or windows, M, N, N)
    if shift:
        mask = mask + shift_mask(height, width, size, problem.qkv)

    def attend() -> Tensor:
        x = pad_map(problem.qkv, problem.padding, size).roll((-shift, -shift), (1, 2))
        rows, columns = x.shape[1] // size, x.shape[2] // size
        windows = partition_windows(x, size).unflatten(-1, (3, heads, -1))  # (windows, N, 3, M, D)
        query, key, value = windows.permute(2, 0, 3, 1, 4)  # each (windows, M, N, D)
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        x = merge_windows(attended.transpose(1, 2).flatten(2), rows, columns, size)
        return x.roll((shift, shift), (1, 2))[:, :height, :width].contiguous()

    return attend


if __name__ == "__main__":
    sys.exit(main())
