"""Memory of the calls that an engine has in flight, so that copies and kernels overlap.

A call owns a slot from its pictures to its results. While the kernels of one call run, another
fills its slot and copies it to the GPU on the slot's own stream.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from cuda.bindings import runtime as cudart
from numpy.typing import DTypeLike, NDArray

from runtime.closing import Closing
from runtime.cuda import (
    DeviceMemory,
    PinnedMemory,
    check,
    copy_to_device,
    copy_to_host,
    new_event,
    new_stream,
)

_ALIGNMENT = 256
"""Bytes; what cudaMalloc aligns to."""


class Staging(Closing):
    """What is copied to the GPU: pinned memory, and as much on the GPU."""

    def __init__(self, nbytes: int) -> None:
        """Allocate both.

        Raises:
            OutOfMemoryError: nothing stays allocated.
        """
        self.nbytes = nbytes
        with contextlib.ExitStack() as stack:
            self.device = stack.enter_context(DeviceMemory(nbytes))
            self.host = stack.enter_context(PinnedMemory(nbytes))
            self._closers = stack.pop_all()

    def close(self) -> None:
        """Free both."""
        self._closers.close()


class Slot(Closing):
    """Memory, stream and events of one call at a time."""

    def __init__(self, results: Mapping[str, int]) -> None:
        """Allocate what does not depend on the pictures.

        Args:
            results: most bytes of each output.

        Raises:
            CudaError: nothing stays allocated.
        """
        self._staging: Staging | None = None
        with contextlib.ExitStack() as stack:
            stack.callback(self._free_staging)
            self._results = {
                name: stack.enter_context(PinnedMemory(n)) for name, n in results.items()
            }
            self._staged, self._done = new_event(stack), new_event(stack)
            self._stream = new_stream(stack)
            self._closers = stack.pop_all()

    def reserve(self, nbytes: int) -> None:
        """Have room to stage so many bytes; what was staged before is gone.

        Raises:
            OutOfMemoryError: there is no room at all then, until it is asked for again.
        """
        if self._staging is None or self._staging.nbytes < nbytes:
            self._free_staging()  # first, because both may not fit
            self._staging = Staging(nbytes)

    def stage(self, arrays: Sequence[NDArray[Any]]) -> list[int]:
        """Begin to copy arrays of any strides to the GPU.

        Returns:
            Where each will lie there, contiguous, once ``start`` lets a stream go on.

        Raises:
            CudaError: out of memory, for one.
        """
        if not arrays:  # nothing to wait for
            return []
        ends = np.cumsum([-(-array.nbytes // _ALIGNMENT) * _ALIGNMENT for array in arrays])
        self.reserve(int(ends[-1]))
        assert self._staging is not None
        host, device = self._staging.host, self._staging.device
        offsets = [0, *ends[:-1].tolist()]
        for array, offset in zip(arrays, offsets, strict=True):
            np.copyto(host.array(array.shape, array.dtype, offset), array)
            # At once: it is under way while the next one is filled in.
            copy_to_device(
                device.address + offset, host.address + offset, array.nbytes, self._stream
            )
        check(cudart.cudaEventRecord(self._staged, self._stream))
        return [device.address + offset for offset in offsets]

    def start(self, stream: Any) -> None:
        """Make ``stream`` wait for what was staged."""
        check(cudart.cudaStreamWaitEvent(stream, self._staged, 0))

    def finish(self, outputs: Mapping[str, int], nbytes: Mapping[str, int], stream: Any) -> None:
        """Enqueue the copies of outputs from these addresses on the GPU, for ``wait``."""
        for name, address in outputs.items():
            copy_to_host(self._results[name].address, address, nbytes[name], stream)
        check(cudart.cudaEventRecord(self._done, stream))

    def wait(self) -> None:
        """Wait for all of the call."""
        check(cudart.cudaEventSynchronize(self._done))

    def result(self, name: str, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        """An output, copied."""
        return self._results[name].array(shape, dtype).copy()

    def close(self) -> None:
        """Free everything."""
        self._closers.close()

    def _free_staging(self) -> None:
        staging, self._staging = self._staging, None
        if staging is not None:
            staging.close()


class SlotPool:
    """Lends slots to calls; safe with any number of threads."""

    def __init__(self, slots: Sequence[Slot]) -> None:
        """Take slots, which stay their owner's to free."""
        self._slots = tuple(slots)
        self._free = list(slots)
        self._closed = False
        self._changed = threading.Condition()

    def reserve(self, nbytes: int) -> None:
        """Have room in every slot, of which none may be lent; see ``Slot.reserve``."""
        for slot in self._slots:
            slot.reserve(nbytes)

    @contextlib.contextmanager
    def lend(self) -> Iterator[Slot]:
        """A slot until the end of the block; waits until one is free.

        Raises:
            RuntimeError: the engine is closed, perhaps while this waited.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._free or self._closed)
            if self._closed:
                raise RuntimeError("the engine is closed")
            slot = self._free.pop()  # the last one used: a single thread never needs the other
        try:
            yield slot
        finally:
            with self._changed:
                self._free.append(slot)
                self._changed.notify_all()

    def close(self) -> None:
        """Lend no more, and wait until every slot has come back."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: len(self._free) == len(self._slots))
