"""A TensorRT engine with its memory: arrays in, arrays out; copies overlap with kernels."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from cuda.bindings import runtime as cudart
from numpy.typing import DTypeLike, NDArray

from runtime.backend import TensorInfo
from runtime.closing import Closing
from runtime.cuda import (
    CONTEXT_LOST,
    ContextLostError,
    CudaError,
    DeviceMemory,
    OutOfMemoryError,
    check,
    context_is_lost,
    copy_on_device,
    memory_info,
    new_stream,
    require_gpu,
)
from runtime.engine_errors import describe_shortage, failure
from runtime.errors import UserError
from runtime.gpu_array import GpuArray
from runtime.layers import inspect_layers, make_profiler
from runtime.shapes import Run, ShapeRange, Shapes, listed
from runtime.slots import Slot, SlotPool
from runtime.tensorrt_log import make_logger

Fill = Callable[[list[int], Any], None]
"""Enqueues what turns staged arrays, at these addresses of the GPU, into the engine's inputs."""
Take = Callable[[Slot, Run], None]
"""Enqueues what brings the engine's outputs out of its own memory, and ends the slot's call."""

_SLOTS = 2
"""Calls in flight: while the kernels of one run, the arrays of another are copied."""


class Engine(Closing):
    """A deserialised engine, one execution context and one stream for it.

    The memory of inputs and outputs is allocated once, for the largest shapes that the engine
    takes. The engine is the authority: names, shapes and types are read from it. The kernels of
    several threads' calls take turns; one call's copies overlap with another's kernels.
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
            cuda_graph: replay the kernels as one CUDA graph while the shapes stay the same; where
                more than the batch may change, from the third run of the same shapes on.
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
        self.addresses: dict[str, int] = {}
        """Of inputs and outputs on the GPU; they stay the same."""
        self._ranges: dict[str, ShapeRange] = {}
        self._run = Run({}, {}, {})
        self._lock = threading.Lock()
        """Of context and stream; held to enqueue, not while a call waits for the GPU."""
        self._lost = False
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
            OutOfMemoryError: a ``UserError`` too; the engine can be used on.
            ContextLostError: no engine of this process can be used any more.
            CudaError: the GPU failed otherwise.
            RuntimeError: the engine is closed.
        """
        if feeds.keys() != self.inputs.keys():
            raise UserError(f"the engine takes {', '.join(self.inputs)}, got {', '.join(feeds)}")
        for name, array in feeds.items():
            self._check_input(name, array.shape, array.dtype)
        sizes = {name: array.nbytes for name, array in feeds.items()}
        shapes = {name: array.shape for name, array in feeds.items()}
        return self.infer_staged(list(feeds.values()), shapes, partial(self._copy_inputs, sizes))

    def infer_staged(
        self, arrays: Sequence[NDArray[Any]], shapes: Shapes, fill: Fill
    ) -> dict[str, NDArray[Any]]:
        """Copy arrays to the GPU, make the inputs of them there, run once and wait.

        Args:
            arrays: of any types and strides; none if ``fill`` takes all from elsewhere.
            shapes: of every input, all of the same batch.
            fill: makes them at ``addresses``.

        Returns:
            A new array for each output.

        Raises:
            UserError: an input of another shape, or no room for the arrays.
            OutOfMemoryError: a ``UserError`` too; the engine can be used on.
            ContextLostError: no engine of this process can be used any more.
            CudaError: the GPU failed otherwise.
            RuntimeError: the engine is closed.
        """
        with self._done(arrays, shapes, fill, self._take_to_host) as (slot, run):
            return {
                name: slot.result(name, run.shapes[name], info.dtype)
                for name, info in self.outputs.items()
            }

    def infer_on_gpu(
        self, arrays: Sequence[NDArray[Any]], shapes: Shapes, fill: Fill
    ) -> dict[str, GpuArray]:
        """As ``infer_staged``; the outputs stay on the GPU, each in new memory."""
        outputs: dict[str, GpuArray] = {}

        def take(slot: Slot, run: Run) -> None:
            for name, info in self.outputs.items():
                outputs[name] = GpuArray(run.shapes[name], info.dtype)
                to, source = outputs[name].address, self.addresses[name]
                copy_on_device(to, source, run.nbytes[name], self.stream)
            slot.finish({}, {}, self.stream)

        with self._done(arrays, shapes, fill, take):
            return outputs

    def reserve(self, nbytes: int) -> None:
        """Have room for staged arrays of so many bytes, before the first inference.

        It grows when a call needs more.

        Raises:
            OutOfMemoryError: there is none.
        """
        self._slots.reserve(nbytes)
        self.memory["staging"] = _SLOTS * nbytes

    def largest(self, name: str) -> tuple[int, ...]:
        """The largest shape that an input takes."""
        return self._ranges[name].largest

    @property
    def aux_streams(self) -> int:
        """Streams of TensorRT's own on which kernels may run beside the others."""
        return int(self._engine.num_aux_streams)

    def compute(self) -> None:
        """Enqueue the kernels alone, on what ``infer`` left in device memory; does not wait."""
        run = self._run
        if self.cuda_graph and run.graph is not None:
            check(cudart.cudaGraphLaunch(run.graph, self.stream))
            return
        self._enqueue()
        # Captured after a run, because the first one of a shape sets things up that a capture must
        # not contain; and after a second one where every picture may bring a shape of its own.
        if self.cuda_graph and (run.enqueued or not self._any_size):
            self.synchronize()
            self._capture()
        run.enqueued = True

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
        """Wait for calls in flight, then free everything; harmless when called again."""
        self._slots.close()
        with self._lock:
            try:
                self._closers.close()
            except CudaError as error:
                # With the context, all that it held went away.
                if not (self._lost or isinstance(error, ContextLostError)):
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
            raise failure(
                f"{trt.__name__} {trt.__version__} cannot load {path}; build it again on this "
                "machine",
                UserError,
                self._errors,
            )
        self.memory["activations"] = int(self._engine.device_memory_size_v2)
        self._context = self._engine.create_execution_context()
        if self._context is None:
            raise failure(f"{path} gives no execution context", CudaError, self._errors)

    def _free_tensorrt(self) -> None:
        """In the order that TensorRT wants."""
        self._context = None
        self._engine = None
        self._runtime = None

    def _allocate(self, trt: ModuleType, stack: contextlib.ExitStack) -> None:
        """Make the stream and the memory of inputs and outputs; ``stack`` frees them."""
        self.stream = new_stream(stack)
        self._read_tensors(trt)
        self._set_shapes({name: sizes.largest for name, sizes in self._ranges.items()})
        most = self._run.nbytes
        self.memory["inputs and outputs"] = sum(most.values())
        for name, nbytes in most.items():
            self.addresses[name] = stack.enter_context(DeviceMemory(nbytes)).address
            self._context.set_tensor_address(name, self.addresses[name])
        results = {name: most[name] for name in self.outputs}
        self._slots = SlotPool([stack.enter_context(Slot(results)) for _ in range(_SLOTS)])
        stack.callback(self._free_graph)

    def _read_tensors(self, trt: ModuleType) -> None:
        """Ask the engine for its inputs and outputs."""
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

    def _range(self, name: str, shape: tuple[int, ...]) -> ShapeRange:
        if -1 not in shape:
            return ShapeRange(shape, shape)
        smallest, _, largest = self._engine.get_tensor_profile_shape(name, 0)
        return ShapeRange(tuple(smallest), tuple(largest))

    @property
    def _any_size(self) -> bool:
        """Whether more than the batch may change."""
        return any(None in info.shape[1:] for info in self.inputs.values())

    def _check_input(self, name: str, shape: tuple[int, ...], dtype: DTypeLike) -> None:
        wanted, sizes = self.inputs[name].dtype, self._ranges[name]
        if dtype != wanted or not sizes.holds(shape):
            raise UserError(f"{name} has to be {wanted}{sizes}, got {dtype}{shape}")

    @contextlib.contextmanager
    def _settled(self) -> Iterator[None]:
        """After an error, nothing of the call is under way any more: its slot may be lent again."""
        if self._lost:
            raise ContextLostError(CONTEXT_LOST)
        try:
            yield
        except BaseException as error:
            with self._lock:  # not while another thread captures a graph
                self._lost = context_is_lost()
            if self._lost and type(error) is CudaError:  # TensorRT's, which does not say so
                raise ContextLostError(f"{error}; {CONTEXT_LOST}") from error
            raise

    @contextlib.contextmanager
    def _done(
        self, arrays: Sequence[NDArray[Any]], shapes: Shapes, fill: Fill, take: Take
    ) -> Iterator[tuple[Slot, Run]]:
        """A whole call, waited for; its slot for the results, until the end of the block."""
        for name, shape in shapes.items():
            self._check_input(name, shape, self.inputs[name].dtype)
        if len({shape[0] for shape in shapes.values()}) > 1:
            raise UserError(f"inputs differ in their batch: {listed(shapes)}")
        with self._slots.lend() as slot, self._settled():
            staged = slot.stage(arrays)
            with self._lock:
                run = self._enqueue_call(slot, shapes, partial(fill, staged), take)
            slot.wait()
            yield slot, run

    def _enqueue_call(
        self, slot: Slot, shapes: Shapes, fill: Callable[[Any], None], take: Take
    ) -> Run:
        """All that a call does on the engine's own stream; what it puts out has these shapes."""
        if shapes != self._run.inputs:
            self.synchronize()  # the graph of the old shapes may still be running
            self._set_shapes(shapes)
        slot.start(self.stream)
        fill(self.stream)
        self.compute()
        take(slot, self._run)
        return self._run

    def _take_to_host(self, slot: Slot, run: Run) -> None:
        outputs = {name: self.addresses[name] for name in self.outputs}
        slot.finish(outputs, run.nbytes, self.stream)

    def _copy_inputs(self, sizes: Mapping[str, int], staged: list[int], stream: Any) -> None:
        for (name, nbytes), source in zip(sizes.items(), staged, strict=True):
            copy_on_device(self.addresses[name], source, nbytes, stream)

    def _set_shapes(self, inputs: Shapes) -> None:
        """Tell TensorRT the shapes of the inputs, and ask it for those of the outputs."""
        # TensorRT wants a context for each captured graph, and there is one context.
        self._free_graph()
        self._run = Run({}, {}, {})
        for name, shape in inputs.items():
            if not self._context.set_input_shape(name, shape):
                raise failure(f"TensorRT does not take {name} as {shape}", CudaError, self._errors)
        outputs = {name: tuple(self._context.get_tensor_shape(name)) for name in self.outputs}
        shapes = inputs | outputs
        dtypes = {name: info.dtype for name, info in (self.inputs | self.outputs).items()}
        nbytes = {n: int(np.prod(shapes[n])) * np.dtype(dtypes[n]).itemsize for n in shapes}
        self._run = Run(inputs, shapes, nbytes)

    def _free_graph(self) -> None:
        graph, self._run.graph = self._run.graph, None
        if graph is not None:
            check(cudart.cudaGraphExecDestroy(graph))

    def _enqueue(self) -> None:
        if not self._context.execute_async_v3(int(self.stream)):
            raise failure("TensorRT could not enqueue the engine", CudaError, self._errors)

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
