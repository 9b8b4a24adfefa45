"""A TensorRT engine with its memory: arrays in, arrays out."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
from cuda.bindings import runtime as cudart
from numpy.typing import NDArray

from runtime.backend import TensorInfo
from runtime.closing import Closing
from runtime.cuda import (
    Buffer,
    CudaError,
    OutOfMemoryError,
    check,
    context_is_lost,
    memory_info,
    require_gpu,
)
from runtime.errors import UserError
from runtime.layers import inspect_layers, make_profiler
from runtime.tensorrt_log import make_logger, one_line

_Shapes = dict[str, tuple[int, ...]]

_LOST = (
    "the CUDA context of this process is lost, so no engine in it can be used any more; "
    "start the program again"
)


class _Range(NamedTuple):
    """The shapes that one input takes, each size for itself."""

    smallest: tuple[int, ...]
    largest: tuple[int, ...]

    def holds(self, shape: tuple[int, ...]) -> bool:
        return len(shape) == len(self.largest) and all(
            low <= size <= high
            for low, size, high in zip(self.smallest, shape, self.largest, strict=True)
        )

    def __str__(self) -> str:
        """E.g. ``(1 to 8, 3, 1280, 1920)``."""
        sizes = zip(self.smallest, self.largest, strict=True)
        return f"({', '.join(f'{n}' if n == m else f'{n} to {m}' for n, m in sizes)})"


@dataclass(slots=True)
class _Run:
    """What follows from the shapes of the inputs, and lasts until they change."""

    inputs: _Shapes
    shapes: _Shapes
    """Of the outputs too."""
    nbytes: dict[str, int]
    graph: Any = None
    """The kernels as a CUDA graph, once they were captured."""


class Engine(Closing):
    """A deserialised engine, one execution context and one stream.

    All memory is allocated once, for the largest shapes that the engine takes. The engine is the
    authority: names, shapes and types are read from it. Calls of several threads take turns.
    """

    def __init__(
        self,
        path: Path,
        trt: ModuleType,
        *,
        cuda_graph: bool = True,
        host_code_allowed: bool = False,
    ) -> None:
        """Load an engine.

        Args:
            path: the engine file.
            trt: the module that built it, ``tensorrt`` or ``tensorrt_rtx``.
            cuda_graph: replay the kernels as one CUDA graph while the shapes stay the same.
            host_code_allowed: run the code that a version-compatible engine brings along.

        Raises:
            UserError: no GPU, or an engine of another version or GPU, or a damaged one.
            OutOfMemoryError: a ``UserError`` too; says what was needed.
            CudaError: the GPU failed.
        """
        require_gpu()
        self.cuda_graph = cuda_graph
        """May be changed between two runs."""
        self.memory = {"weights": path.stat().st_size}
        """Bytes of device memory by what they are for; weights: about."""
        self.inputs: dict[str, TensorInfo] = {}
        """Type and shape of every input; None for a dynamic size."""
        self.outputs: dict[str, TensorInfo] = {}
        """Type and shape of every output; None for a dynamic size."""
        self._ranges: dict[str, _Range] = {}
        self._buffers: dict[str, Buffer] = {}
        self._run = _Run({}, {}, {})
        self._lock = threading.Lock()
        self._closed = self._lost = False
        free, total = memory_info()
        with contextlib.ExitStack() as stack:
            try:
                self._deserialize(path, trt, host_code_allowed, stack)
                self._allocate(trt, stack)
            except OutOfMemoryError as error:
                shortage = describe_shortage(path, self.memory, free, total)
                raise OutOfMemoryError(shortage) from error
            self._closers = stack.pop_all()

    def infer(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Run once and wait.

        Args:
            feeds: an array for each input, all of the same batch.

        Returns:
            A new array for each output.

        Raises:
            UserError: a missing input, or one of another shape or type.
            CudaError: the GPU failed; says so if that cannot be undone.
            RuntimeError: the engine is closed.
        """
        with self._lock:
            if self._closed:
                raise RuntimeError("the engine is closed")
            if self._lost:
                raise CudaError(_LOST)
            self._check_feeds(feeds)
            try:
                return self._infer(feeds)
            except CudaError as error:
                self._lost = context_is_lost()
                if self._lost:
                    raise CudaError(f"{error}; {_LOST}") from error
                raise

    def compute(self) -> None:
        """Enqueue the kernels alone, on what ``infer`` left in device memory; does not wait."""
        if not self.cuda_graph:
            self._enqueue()
            return
        if self._run.graph is None:
            # The first run of a shape sets things up that a capture must not contain.
            self._enqueue()
            self.synchronize()
            self._capture()
        else:
            check(cudart.cudaGraphLaunch(self._run.graph, self.stream))

    def synchronize(self) -> None:
        """Wait for all that was enqueued."""
        check(cudart.cudaStreamSynchronize(self.stream))

    def inspect_layers(self) -> list[dict[str, Any]]:
        """See ``runtime.layers.inspect_layers``."""
        return inspect_layers(self._trt, self._engine)

    def time_layers(self) -> dict[str, float]:
        """Milliseconds of every layer by its name, in one run of ``compute`` without CUDA graph."""
        self._context.profiler = profiler = make_profiler(self._trt)
        try:
            self._enqueue()
            self.synchronize()
        finally:
            self._context.profiler = None
        times: dict[str, float] = profiler.times
        return times

    def close(self) -> None:
        """Free everything; harmless when called again."""
        with self._lock:
            self._closed = True
            try:
                self._closers.close()
            except CudaError:
                # With the context, all that it held went away.
                if not self._lost:
                    raise

    def _deserialize(
        self, path: Path, trt: ModuleType, host_code_allowed: bool, stack: contextlib.ExitStack
    ) -> None:
        """Make the engine and its context; ``stack`` frees them."""
        self._trt = trt
        logger = make_logger(trt)
        self._errors: list[str] = logger.errors
        stack.callback(self._free_tensorrt)
        self._runtime = trt.Runtime(logger)
        self._runtime.engine_host_code_allowed = host_code_allowed
        self._engine = self._runtime.deserialize_cuda_engine(path.read_bytes())
        if self._engine is None:
            raise self._failure(
                f"{trt.__name__} {trt.__version__} cannot load {path}; build it again on this "
                "machine",
                UserError,
            )
        self.memory["activations"] = int(self._engine.device_memory_size_v2)
        self._context = self._engine.create_execution_context()
        if self._context is None:
            raise self._failure(f"{path} gives no execution context", CudaError)

    def _failure(self, problem: str, kind: type[Exception]) -> Exception:
        """The exception for what TensorRT could not do, with the errors that it logged."""
        messages = list(self._errors)
        self._errors.clear()
        # "Error Code 2: OutOfMemory", "Cuda Runtime (out of memory)"
        if any("outofmemory" in message.replace(" ", "").lower() for message in messages):
            kind = OutOfMemoryError
        reasons = "; ".join(map(one_line, messages))
        return kind(f"{problem} ({reasons})" if reasons else problem)

    def _free_tensorrt(self) -> None:
        """In the order that TensorRT wants."""
        self._context = None
        self._engine = None
        self._runtime = None

    def _allocate(self, trt: ModuleType, stack: contextlib.ExitStack) -> None:
        """Make the stream and the memory of inputs and outputs; ``stack`` frees them."""
        self.stream = check(cudart.cudaStreamCreateWithFlags(cudart.cudaStreamNonBlocking))
        stack.callback(lambda: check(cudart.cudaStreamDestroy(self.stream)))
        for index in range(self._engine.num_io_tensors):
            name = self._engine.get_tensor_name(index)
            dtype = np.dtype(trt.nptype(self._engine.get_tensor_dtype(name)))
            shape = tuple(self._engine.get_tensor_shape(name))
            info = TensorInfo(dtype.name, tuple(None if n == -1 else n for n in shape))
            if self._engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT:
                self.inputs[name] = info
                self._ranges[name] = self._range(name, shape)
            else:
                self.outputs[name] = info
        self._set_shapes({name: sizes.largest for name, sizes in self._ranges.items()})
        self.memory["inputs and outputs"] = sum(self._run.nbytes.values())
        for name, nbytes in self._run.nbytes.items():
            self._buffers[name] = buffer = Buffer(nbytes)
            stack.callback(buffer.close)
            self._context.set_tensor_address(name, buffer.device)
        stack.callback(self._free_graph)

    def _range(self, name: str, shape: tuple[int, ...]) -> _Range:
        if -1 not in shape:
            return _Range(shape, shape)
        smallest, _, largest = self._engine.get_tensor_profile_shape(name, 0)
        return _Range(tuple(smallest), tuple(largest))

    def _check_feeds(self, feeds: Mapping[str, NDArray[Any]]) -> None:
        if feeds.keys() != self.inputs.keys():
            raise UserError(f"the engine takes {', '.join(self.inputs)}, got {', '.join(feeds)}")
        for name, array in feeds.items():
            dtype, wanted = self.inputs[name].dtype, self._ranges[name]
            if array.dtype != dtype or not wanted.holds(array.shape):
                raise UserError(f"{name} has to be {dtype}{wanted}, got {array.dtype}{array.shape}")
        if len({len(array) for array in feeds.values()}) > 1:
            raise UserError(f"inputs differ in their batch: {_listed(feeds)}")

    def _infer(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        shapes = {name: array.shape for name, array in feeds.items()}
        if shapes != self._run.inputs:
            self._set_shapes(shapes)
        run = self._run
        for name, array in feeds.items():
            buffer = self._buffers[name]
            np.copyto(buffer.host(array.shape, array.dtype), array)
            buffer.copy_to_device(run.nbytes[name], self.stream)
        self.compute()
        for name in self.outputs:
            self._buffers[name].copy_to_host(run.nbytes[name], self.stream)
        self.synchronize()
        return {
            name: self._buffers[name].host(run.shapes[name], info.dtype).copy()
            for name, info in self.outputs.items()
        }

    def _set_shapes(self, inputs: _Shapes) -> None:
        """Tell TensorRT the shapes of the inputs, and ask it for those of the outputs."""
        # TensorRT wants a context for each captured graph, and there is one context.
        self._free_graph()
        self._run = _Run({}, {}, {})
        for name, shape in inputs.items():
            if not self._context.set_input_shape(name, shape):
                raise self._failure(f"TensorRT does not take {name} as {shape}", CudaError)
        outputs = {name: tuple(self._context.get_tensor_shape(name)) for name in self.outputs}
        shapes = inputs | outputs
        dtypes = {name: info.dtype for name, info in (self.inputs | self.outputs).items()}
        nbytes = {n: int(np.prod(shapes[n])) * np.dtype(dtypes[n]).itemsize for n in shapes}
        self._run = _Run(inputs, shapes, nbytes)

    def _free_graph(self) -> None:
        graph, self._run.graph = self._run.graph, None
        if graph is not None:
            check(cudart.cudaGraphExecDestroy(graph))

    def _enqueue(self) -> None:
        if not self._context.execute_async_v3(int(self.stream)):
            raise self._failure("TensorRT could not enqueue the engine", CudaError)

    def _capture(self) -> None:
        """Record one run of these shapes; where that fails, go on without graphs."""
        mode = cudart.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        try:
            check(cudart.cudaStreamBeginCapture(self.stream, mode))
            try:
                self._enqueue()
            finally:
                graph = check(cudart.cudaStreamEndCapture(self.stream))
            try:
                self._run.graph = check(cudart.cudaGraphInstantiate(graph, 0))
            finally:
                check(cudart.cudaGraphDestroy(graph))
        except CudaError as error:
            print(f"warning: no CUDA graph, every run is enqueued anew: {error}", file=sys.stderr)
            self.cuda_graph = False


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


def _listed(feeds: Mapping[str, NDArray[Any]]) -> str:
    return ", ".join(f"{name} {array.shape}" for name, array in feeds.items())
