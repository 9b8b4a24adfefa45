"""A reference graph in ONNX Runtime on the GPU, as a contender of its engines."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.noise import noise
from runtime.errors import UserError

if TYPE_CHECKING:
    import onnxruntime

_PROVIDER = "CUDAExecutionProvider"


def load(path: Path) -> tuple[str, Callable[[], float]]:
    """Make a contender ready.

    Args:
        path: a ``.ref.onnx``; one with a dynamic batch detects in one picture.

    Returns:
        Its name, and what detects once in a picture of noise without padding, inputs and outputs
        staying on the GPU; gives milliseconds of GPU time.

    Raises:
        UserError: there is no ONNX Runtime that computes on the GPU, or it cannot run the graph.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise UserError("ONNX Runtime is not installed; pip install onnxruntime-gpu") from error
    if _PROVIDER not in onnxruntime.get_available_providers():
        raise UserError(
            f"ONNX Runtime {onnxruntime.__version__} is one for the CPU alone; "
            "pip install onnxruntime-gpu in its place"
        )

    from cuda.bindings import runtime as cudart

    from runtime.benchmark import time_stream
    from runtime.cuda import check

    # Not CUDA's default stream, which its option takes for none.
    stream = check(cudart.cudaStreamCreateWithFlags(cudart.cudaStreamNonBlocking))
    try:
        session = _session(path, int(stream))
        binding = _bind(session)
        run: Callable[[], Any] = partial(session.run_with_iobinding, binding)
        run()
    except UserError:
        raise
    except Exception as error:  # ONNX Runtime's errors have no common base class
        reason = str(error).splitlines()[0]
        raise UserError(f"ONNX Runtime {onnxruntime.__version__} failed: {reason}") from error
    described = json.loads(session.get_modelmeta().custom_metadata_map["codetr"])
    return f"onnxruntime-{described['precision']}", partial(time_stream, stream, run)


def _session(path: Path, stream: int) -> onnxruntime.InferenceSession:
    """The graph on the GPU, its kernels in this stream."""
    import onnxruntime

    onnxruntime.preload_dlls()  # CUDA from PyPI's packages, if it is not installed otherwise
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors only
    # As engines of ours: float32 where float32 was asked for.
    settings = {"user_compute_stream": str(stream), "use_tf32": "0"}
    session = onnxruntime.InferenceSession(path, options, providers=[(_PROVIDER, settings)])
    # Where a CUDA library is missing, it goes on with the CPU.
    if session.get_providers()[0] != _PROVIDER:
        raise UserError(
            f"ONNX Runtime {onnxruntime.__version__} finds no CUDA libraries that it can use"
        )
    return session


def _bind(session: onnxruntime.InferenceSession) -> onnxruntime.IOBinding:
    """Noise without padding, and room for the outputs, on the GPU."""
    import onnxruntime

    binding = session.io_binding()
    inputs = {tensor.name: tensor for tensor in session.get_inputs()}
    batch, _, height, width = inputs["batch_inputs"].shape
    arrays = noise(batch if isinstance(batch, int) else 1, height, width)
    for name, array in zip(("batch_inputs", "img_masks"), arrays, strict=True):
        if name in inputs:  # without a mask there is one input
            value = onnxruntime.OrtValue.ortvalue_from_numpy(array, "cuda", 0)
            binding.bind_ortvalue_input(name, value)
    for tensor in session.get_outputs():
        binding.bind_output(tensor.name, "cuda")
    return binding
