"""Work done ahead of its consumer, in other threads and in order."""

from __future__ import annotations

import contextlib
import os
import queue
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from itertools import islice
from typing import TypeVar, cast

T = TypeVar("T")
R = TypeVar("R")

CPU_WORKERS = min(max(4, len(os.sched_getaffinity(0))), 16)
"""Threads for work that keeps a core busy, such as decoding pictures; each holds a few of them."""

_PATIENCE = 0.1
"""Seconds after which a producer and its consumer look whether they are to stop."""


def batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Lists of ``size`` items; the last one may be shorter."""
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch


def in_order(
    function: Callable[[T], R], items: Iterable[T], *, workers: int, ahead: int | None = None
) -> Iterator[R]:
    """Apply a function in threads; results come in the order of the items, each once it is there.

    Such iterators may be chained: each stage then works while the others do.

    Args:
        function: called in a thread; what it raises is raised where its result is due.
        items: taken in another thread, ahead of the consumer.
        workers: threads, all of them busy if the items are there in time.
        ahead: most results that wait for the consumer; twice the workers by default.
    """
    with ThreadPoolExecutor(workers) as pool, contextlib.ExitStack() as stack:
        # Where the consumer stops, what is under way is waited for; the rest is not begun.
        stack.callback(pool.shutdown, wait=False, cancel_futures=True)

        def submitted() -> Generator[Future[R]]:
            for item in items:
                yield pool.submit(function, item)

        futures = in_background(submitted(), ahead=ahead or 2 * workers, stop=threading.Event())
        with closing(futures):
            for future in futures:
                yield future.result()


def in_background(
    items: Generator[T],
    *,
    ahead: int,
    stop: threading.Event,
    on_drop: Callable[[], None] | None = None,
) -> Generator[T]:
    """Take items in a thread of their own while the consumer works.

    Args:
        items: closed in that thread when the consumer stops.
        ahead: most items that wait.
        stop: ends the iteration when it is set, even while the next item is waited for; set as
            the consumer stops.
        on_drop: without it a slow consumer is waited for; with it, and where the consumer is too
            slow, the oldest item is dropped and this is called.
    """
    waiting: queue.Queue[tuple[T | None, BaseException | None]] = queue.Queue(ahead)

    def produce() -> None:
        with closing(items):
            try:
                for item in items:
                    put(item, None)
                    if stop.is_set():
                        return
                put(None, StopIteration())
            except BaseException as error:
                put(None, error)

    def put(item: T | None, error: BaseException | None) -> None:
        drop = on_drop if error is None else None  # the end is worth no item
        while not stop.is_set():
            try:
                waiting.put((item, error), timeout=0 if drop else _PATIENCE)
                break
            except queue.Full:
                if drop:
                    with contextlib.suppress(queue.Empty):
                        waiting.get_nowait()
                        drop()

    threading.Thread(target=produce, daemon=True).start()
    try:
        while not stop.is_set():
            try:
                item, error = waiting.get(timeout=_PATIENCE)
            except queue.Empty:
                continue
            if isinstance(error, StopIteration):
                return
            if error is not None:
                raise error
            yield cast(T, item)
    finally:
        stop.set()
