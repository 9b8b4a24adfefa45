"""The model in PyTorch, as contenders of its engines.

PyTorch runs the modules of ``codetr`` as they are. Deformable attention is our CUDA kernel there
too, if it was compiled: what PyTorch has of its own, grid_sample, takes 27 ms for one encoder call
at 1280 x 1920.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from codetr.checkpoint import build_model, read_checkpoint
from codetr.deform_attn import ms_deform_attn
from onnx_export.precision import Precision, TypedModel

KERNEL = Path(__file__).parents[1] / "build" / "plugin" / "libcodetr_kernel_test.so"
"""As ``python -m plugin build --tests`` leaves it."""
CONTENDERS: dict[str, tuple[Precision, bool]] = {
    "pytorch-fp32": ("fp32", False),
    "pytorch-fp16": ("fp16", False),
    "torch-compile-fp16": ("fp16", True),
}
"""Name: precision, and whether torch.compile compiles it."""


def sampling() -> str:
    """By what deformable attention samples here, for people."""
    return "our kernel" if KERNEL.is_file() else "grid_sample"


def load(name: str, preset: str, weights: Path, size: tuple[int, int]) -> Callable[[], float]:
    """Make a contender ready.

    Args:
        name: a key of ``CONTENDERS``.
        preset: a key of ``codetr.presets.PRESETS``.
        weights: its checkpoint.
        size: height and width of the input.

    Returns:
        Detects once in a picture of noise without padding; gives milliseconds of GPU time.
    """
    precision, compiled = CONTENDERS[name]
    # As engines of ours: float32 where float32 was asked for.
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    if KERNEL.is_file():
        _use_kernel()
    model, _ = build_model(preset, read_checkpoint(weights))
    typed: Any = TypedModel(model, precision).eval().cuda()
    run = torch.compile(typed) if compiled else typed
    inputs = torch.randn(1, 3, *size, device="cuda"), torch.zeros(1, *size, device="cuda")
    with torch.inference_mode():
        run(*inputs)
    return partial(_time, run, inputs)


def _time(run: Callable[..., Any], inputs: tuple[Tensor, ...]) -> float:
    start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    with torch.inference_mode():
        start.record()
        run(*inputs)
        stop.record()
    torch.cuda.synchronize()
    return float(start.elapsed_time(stop))


@cache
def _use_kernel() -> None:
    """Let the operator run our kernel on CUDA tensors."""
    from tests.plugin.problems import Problem

    launch = ctypes.CDLL(str(KERNEL)).codetr_ms_deform_attn

    @ms_deform_attn.register_kernel("cuda")
    def _(*tensors_and_numbers: Any) -> Tensor:
        names = ("value", "sampling", "reference", "level_sizes", "valid_sizes", "heads", "points")
        problem = Problem(**dict(zip(names, tensors_and_numbers, strict=True)))
        output = torch.empty_like(problem.value[:, : problem.sampling.shape[1]])
        stream = ctypes.c_void_p(torch.cuda.current_stream().cuda_stream)
        if error := launch(ctypes.byref(problem.struct(output)), stream):
            raise RuntimeError(f"the kernel returned CUDA error {error}")
        return output
