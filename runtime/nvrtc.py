"""Compiles CUDA source where it runs, with NVRTC."""

from __future__ import annotations

from typing import Any

from cuda.bindings import nvrtc

_SUCCESS = nvrtc.nvrtcResult.NVRTC_SUCCESS


class NvrtcError(RuntimeError):
    """NVRTC is missing, or cannot compile the source for this GPU."""


def compile_cubin(source: str, name: str, compute_capability: str) -> bytes:
    """CUDA source -> code for one kind of GPU; needs no GPU.

    Args:
        source: one file without includes.
        name: what messages call it.
        compute_capability: e.g. ``9.0``.

    Raises:
        NvrtcError: it says why.
    """
    # As numpy and OpenCV compute: a product is rounded before something is added to it.
    options = [f"--gpu-architecture=sm_{compute_capability.replace('.', '')}", "--fmad=false"]
    try:
        program = _check(nvrtc.nvrtcCreateProgram(source.encode(), name.encode(), 0, None, None))
    except (RuntimeError, OSError) as error:  # the library is not there
        reason = str(error).strip().partition("\n")[0]
        raise NvrtcError(f"{reason}; pip install nvidia-cuda-nvrtc") from error
    try:
        encoded = [option.encode() for option in options]
        result, *_ = nvrtc.nvrtcCompileProgram(program, len(encoded), encoded)
        if result != _SUCCESS:
            raise NvrtcError(f"{_words(result)}: {_log(program)}")
        cubin = bytes(_check(nvrtc.nvrtcGetCUBINSize(program)))
        _check(nvrtc.nvrtcGetCUBIN(program, cubin))
    finally:
        _check(nvrtc.nvrtcDestroyProgram(program))
    return cubin


def _check(result: tuple[Any, ...]) -> Any:
    error, *values = result
    if error != _SUCCESS:
        raise NvrtcError(_words(error))
    return values[0] if values else None


def _words(error: Any) -> str:
    text: bytes = nvrtc.nvrtcGetErrorString(error)[1]
    return text.decode()


def _log(program: Any) -> str:
    """What the compiler says, on one line."""
    log = bytes(_check(nvrtc.nvrtcGetProgramLogSize(program)))
    _check(nvrtc.nvrtcGetProgramLog(program, log))
    return " ".join(log.rstrip(b"\0").decode().split())
