"""A TensorRT engine with its memory: arrays in, arrays out."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
from cuda.bindings import runtime as cudart
from numpy.typing import NDArray

from runtime.backend import TensorInfo
from runtime.cuda import Buffer, CudaError, check, require_gpu
from runtime.errors import UserError
from runtime.tensorrt_log import make_logger, one_line


class _Io(NamedTuple):
    """One input or output."""

    info: TensorInfo
    buffer: Buffer


class Engine:
    """A deserialised engine, one execution context and one stream; for one thread at a time.

    All memory is allocated once, for the largest shapes that the engine takes. The engine is the
    authority: names, shapes and types are read from it.
    """

    def __init__(self, path: Path, trt: ModuleType, *, cuda_graph: bool = True) -> None:
        """Load an engine.

        Args:
            path: the engine file.
            trt: the module that built it, ``tensorrt`` or ``tensorrt_rtx``.
            cuda_graph: replay the kernels of each batch as one CUDA graph.

        Raises:
            UserError: no GPU, or an engine of another version or GPU, or a damaged one.
            CudaError: out of device memory, for one.
        """
        require_gpu()
        self._closers: list[Callable[[], Any]] = []
        self._graphs: dict[int, Any] = {}
        self._use_graph = cuda_graph
        self._batch = 0
        logger = make_logger(trt)
        self._runtime = trt.Runtime(logger)
        self._engine = self._runtime.deserialize_cuda_engine(path.read_bytes())
        if self._engine is None:
            raise UserError(
                f"{trt.__name__} {trt.__version__} cannot load {path}: "
                f"{'; '.join(map(one_line, logger.errors))}; build it again on this machine"
            )
        self._context = self._engine.create_execution_context()
        if self._context is None:
            raise CudaError(f"no execution context: {'; '.join(map(one_line, logger.errors))}")
        self.stream = check(cudart.cudaStreamCreateWithFlags(cudart.cudaStreamNonBlocking))
        self._closers.append(lambda: check(cudart.cudaStreamDestroy(self.stream)))
        names = [self._engine.get_tensor_name(i) for i in range(self._engine.num_io_tensors)]
        modes = {name: self._engine.get_tensor_mode(name) for name in names}
        inputs = [name for name in names if modes[name] == trt.TensorIOMode.INPUT]
        outputs = [name for name in names if modes[name] == trt.TensorIOMode.OUTPUT]
        self._inputs = {name: self._allocate(trt, name, self._largest(name)) for name in inputs}
        # Shapes of outputs are known once those of the inputs are set.
        self._outputs = {
            name: self._allocate(trt, name, tuple(self._context.get_tensor_shape(name)))
            for name in outputs
        }

    @property
    def inputs(self) -> dict[str, TensorInfo]:
        """Type and shape of every input; None for a dynamic size."""
        return {name: io.info for name, io in self._inputs.items()}

    @property
    def outputs(self) -> dict[str, TensorInfo]:
        """Type and shape of every output; None for a dynamic size."""
        return {name: io.info for name, io in self._outputs.items()}

    @property
    def activation_bytes(self) -> int:
        """Device memory of the execution context beside weights, inputs and outputs."""
        return int(self._engine.device_memory_size_v2)

    def infer(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Run once and wait.

        Args:
            feeds: an array for each input, all of the same batch.

        Returns:
            A new array for each output.

        Raises:
            UserError: a missing input, or one of another shape or type.
            CudaError: the GPU failed.
        """
        batch = self._load(feeds)
        if batch != self._batch:
            for name, array in feeds.items():
                self._context.set_input_shape(name, array.shape)
            self._batch = batch
        for name, io in self._inputs.items():
            io.buffer.copy_to_device(self._nbytes(name, io.info), self.stream)
        self.compute()
        for name, io in self._outputs.items():
            io.buffer.copy_to_host(self._nbytes(name, io.info), self.stream)
        self.synchronize()
        return {
            name: io.buffer.host(self._shape(name), io.info.dtype).copy()
            for name, io in self._outputs.items()
        }

    def compute(self) -> None:
        """Enqueue the kernels alone, on what lies in device memory; returns before they end."""
        if not self._use_graph:
            self._enqueue()
        elif self._batch in self._graphs:
            check(cudart.cudaGraphLaunch(self._graphs[self._batch], self.stream))
        else:
            # The first run of a shape sets things up that a capture must not contain.
            self._enqueue()
            self.synchronize()
            self._capture()

    def synchronize(self) -> None:
        """Wait for all that was enqueued."""
        check(cudart.cudaStreamSynchronize(self.stream))

    def close(self) -> None:
        """Free everything, in the order that TensorRT wants; harmless when called again."""
        for graph in self._graphs.values():
            check(cudart.cudaGraphExecDestroy(graph))
        self._graphs.clear()
        self._context = self._engine = self._runtime = None
        while self._closers:
            self._closers.pop()()

    def _largest(self, name: str) -> tuple[int, ...]:
        """The largest shape of an input, which is set in the context."""
        shape = tuple(self._engine.get_tensor_shape(name))
        if -1 in shape:
            shape = tuple(self._engine.get_tensor_profile_shape(name, 0)[2])
            self._context.set_input_shape(name, shape)
        return shape

    def _allocate(self, trt: ModuleType, name: str, largest: tuple[int, ...]) -> _Io:
        dtype = np.dtype(trt.nptype(self._engine.get_tensor_dtype(name)))
        shape = (None if n == -1 else n for n in self._engine.get_tensor_shape(name))
        buffer = Buffer(int(np.prod(largest)) * dtype.itemsize)
        self._closers.append(buffer.close)
        self._context.set_tensor_address(name, buffer.device)
        return _Io(TensorInfo(dtype.name, tuple(shape)), buffer)

    def _load(self, feeds: Mapping[str, NDArray[Any]]) -> int:
        """Copy the feeds into page-locked memory; returns their batch."""
        if feeds.keys() != self._inputs.keys():
            raise UserError(f"the engine takes {', '.join(self._inputs)}, got {', '.join(feeds)}")
        for name, array in feeds.items():
            info, buffer = self._inputs[name]
            fits = len(array.shape) == len(info.shape) and all(
                wanted in (None, size) for wanted, size in zip(info.shape, array.shape, strict=True)
            )
            if not fits or array.dtype != info.dtype:
                raise UserError(f"{name} has to be {info}, got {array.dtype}{array.shape}")
            np.copyto(buffer.host(array.shape, array.dtype), array)
        return len(next(iter(feeds.values())))

    def _shape(self, name: str) -> tuple[int, ...]:
        return tuple(self._context.get_tensor_shape(name))

    def _nbytes(self, name: str, info: TensorInfo) -> int:
        return int(np.prod(self._shape(name))) * np.dtype(info.dtype).itemsize

    def _enqueue(self) -> None:
        if not self._context.execute_async_v3(int(self.stream)):
            raise CudaError("TensorRT could not enqueue the engine")

    def _capture(self) -> None:
        """Record one run of the current batch; where that fails, go on without graphs."""
        mode = cudart.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        try:
            check(cudart.cudaStreamBeginCapture(self.stream, mode))
            try:
                self._enqueue()
            finally:
                graph = check(cudart.cudaStreamEndCapture(self.stream))
            self._graphs[self._batch] = check(cudart.cudaGraphInstantiate(graph, 0))
            check(cudart.cudaGraphDestroy(graph))
        except CudaError as error:
            print(f"warning: no CUDA graph, every run is enqueued anew: {error}", file=sys.stderr)
            self._use_graph = False
