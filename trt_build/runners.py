"""Polygraphy's runners for both sides of a comparison: arrays by name in, arrays by name out."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Self

import onnx
from numpy.typing import NDArray

from runtime.errors import UserError
from runtime.tensorrt_log import make_logger, one_line
from trt_build.backend import BACKENDS, choose_backend
from trt_build.cuda_runtime import show_cuda_runtime
from trt_build.machine import describe_gpu, start_cuda

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Runner:
    """One side."""

    path: Path
    """The file, for messages."""
    polygraphy: Any
    """A ``polygraphy.backend.base.BaseRunner``."""
    errors: list[str] = field(default_factory=list)
    """What TensorRT complained of."""

    def infer(self, feeds: Arrays) -> Arrays:
        """Run once; the arrays are good until the next run.

        Raises:
            UserError: TensorRT failed, for want of memory for one.
        """
        from polygraphy.exception import PolygraphyException

        try:
            with _quiet():
                outputs: Arrays = self.polygraphy.infer(feeds)
        except PolygraphyException as error:
            raise self._explained(error) from error
        return outputs

    @contextlib.contextmanager
    def active(self) -> Iterator[Self]:
        """Take memory for runs, and give it back.

        Raises:
            UserError: the file cannot be run here.
        """
        try:
            with _quiet():
                self.polygraphy.activate()
        except Exception as error:  # ONNX Runtime's errors have no common base class
            raise self._explained(error) from error
        try:
            yield self
        finally:
            with _quiet():
                self.polygraphy.deactivate()

    def _explained(self, error: Exception) -> UserError:
        reasons = [*map(one_line, self.errors), " ".join(str(error).split())]
        return UserError(f"cannot run {self.path}: {'; '.join(reasons)}")


def onnx_runner(path: Path, model: onnx.ModelProto | None = None) -> Runner:
    """ONNX Runtime on the CPU.

    Args:
        path: the file.
        model: what it holds, if that was changed in memory.

    Raises:
        UserError: ONNX Runtime is not installed.
    """
    if find_spec("onnxruntime") is None:
        raise UserError("the reference runs in ONNX Runtime: pip install onnxruntime")
    import onnxruntime
    from polygraphy.backend.onnxrt import OnnxrtRunner, SessionFromOnnx

    onnxruntime.set_default_logger_severity(3)  # errors only

    source = str(path) if model is None else model.SerializeToString()
    return Runner(path, OnnxrtRunner(SessionFromOnnx(source)))


def engine_runner(path: Path, recipe: Mapping[str, Any]) -> Runner:
    """TensorRT or TensorRT-RTX on the GPU.

    Args:
        path: the engine.
        recipe: how it was built, as its manifest says.

    Raises:
        UserError: no GPU, or the engine is for another one or another version.
    """
    backend = BACKENDS[recipe["backend"]]
    gpu, reason = describe_gpu()
    reason = start_cuda() if gpu is not None else reason
    card = "an RTX card" if backend.cross_compiles else "the GPU it was built on"
    if reason is not None:  # asked first: TensorRT 10.6 aborts the process without a GPU
        raise UserError(
            f"{path} was built by {backend.title} and runs on {card} only ({reason}); verify it "
            "there, or give the .ref.onnx it was built from instead of the engine"
        )
    trt = choose_backend(backend.name).load()
    import polygraphy.config

    polygraphy.config.USE_TENSORRT_RTX = backend.name == "tensorrt-rtx"  # read as it is imported
    from polygraphy.backend.trt import TrtRunner

    show_cuda_runtime()
    # Deserialised here, not by polygraphy's EngineFromBytes, whose error is only "see the log".
    # The plan brings the plugin along.
    logger = make_logger(trt)
    runtime = trt.Runtime(logger)
    runtime.engine_host_code_allowed = recipe["options"].get("version_compatible", False)
    engine = runtime.deserialize_cuda_engine(path.read_bytes())
    if engine is None:
        advice = f"{card} is needed" if backend.cross_compiles else "build it again on this machine"
        raise UserError(
            f"{trt.__name__} {trt.__version__} cannot load {path} on this GPU: "
            f"{'; '.join(map(one_line, logger.errors))}; {advice}"
        )
    return Runner(path, TrtRunner(engine), logger.errors)


def _quiet() -> Any:
    """Polygraphy would print to stdout."""
    from polygraphy.logger import G_LOGGER

    return G_LOGGER.verbosity(G_LOGGER.CRITICAL + 1)
