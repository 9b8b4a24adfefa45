"""Times the sampling kernel beside PyTorch, on a GPU.

Build it first: ``python -m plugin build --tests``. Inputs are as in a trained network: references
at the centres of the tokens (encoder) or random boxes (decoder), offsets normal with 3 cells. What
is timed is the operator alone: softmax, positions, sampling and sum.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from benchmarks.kernel import SIZES, launcher, run, time_calls

if TYPE_CHECKING:
    import argparse

    from tests.plugin.problems import Problem

_STRIDES = (4, 8, 16, 32, 64)
_QUERIES = 900


def main() -> int:
    """Run the command; returns the exit code."""
    description = "Time deformable attention: our kernel beside PyTorch's grid_sample."
    return run("ms_deform_attn", description, ("fp16", "bf16", "fp32"), _measure)


def _measure(args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """A row for each call, type and contender."""
    from codetr.deform_attn import ms_deform_attn

    for (height, width), call, dtype in itertools.product(
        SIZES, ("encoder", "decoder"), args.dtypes
    ):
        problem = _inputs(call, height, width, dtype)
        tensors = (problem.value, problem.sampling, problem.reference)
        sizes = (problem.level_sizes, problem.valid_sizes, problem.heads, problem.points)
        contenders = {
            "plugin": launcher(args, "codetr_ms_deform_attn", problem),
            "pytorch-grid-sample": lambda t=tensors, s=sizes: ms_deform_attn(*t, *s),
        }
        for name, contender in contenders.items():
            yield {
                "kernel": "ms_deform_attn",
                "contender": name,
                "call": call,
                "height": height,
                "width": width,
                "dtype": dtype,
                "queries": problem.sampling.shape[1],
                "us": time_calls(contender, args.iterations),
            }


def _inputs(call: str, height: int, width: int, dtype: str) -> Problem:
    import torch

    from tests.plugin.problems import DTYPES, make_problem

    sizes = [(-(-height // stride), -(-width // stride)) for stride in _STRIDES]
    decoder = call == "decoder"
    queries = _QUERIES if decoder else None
    problem = make_problem(sizes, queries=queries, box=decoder, device="cuda")
    if not decoder:
        centres = [
            torch.cartesian_prod((torch.arange(h) + 0.5) / h, (torch.arange(w) + 0.5) / w).flip(-1)
            for h, w in sizes
        ]
        problem.reference.copy_(torch.cat(centres))
    return problem.to(DTYPES[dtype], "cuda")


if __name__ == "__main__":
    sys.exit(main())
