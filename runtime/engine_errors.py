"""What to say of an engine that TensorRT or the GPU did not let run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from runtime.cuda import OutOfMemoryError, memory_left
from runtime.tensorrt_log import one_line


def failure(problem: str, kind: type[Exception], errors: list[str]) -> Exception:
    """The exception for what TensorRT could not do.

    Args:
        problem: what that was.
        kind: of the exception, unless TensorRT ran out of memory.
        errors: what TensorRT logged; empty afterwards.
    """
    messages = list(errors)
    errors.clear()
    # "Error Code 2: OutOfMemory", "Cuda Runtime (out of memory)"
    if any("outofmemory" in message.replace(" ", "").lower() for message in messages):
        kind = OutOfMemoryError
        problem = f"{problem}: the GPU's memory is full, {memory_left()}"
    reasons = "; ".join(map(one_line, messages))
    return kind(f"{problem} ({reasons})" if reasons else problem)


def describe_shortage(path: Path, needed: Mapping[str, int], free: int, total: int) -> str:
    """One line about an engine that finds no room on the GPU.

    Args:
        path: the engine.
        needed: bytes by what they are for, as far as that is known.
        free: bytes that were free before.
        total: bytes that the GPU has.
    """
    parts = ", ".join(f"{name} {_gb(nbytes)}" for name, nbytes in needed.items())
    return (
        f"the GPU has no room for {path}: it needs over {_gb(sum(needed.values()))} ({parts}), "
        f"and {_gb(free)} of {_gb(total)} were free; end other programs on the GPU, or build it "
        "for a smaller input or batch"
    )


def _gb(nbytes: int) -> str:
    return f"{nbytes / 1e9:.2f} GB"
