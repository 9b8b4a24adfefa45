"""Shows that a build is alive, and lets Ctrl-C end it."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType
from typing import Any, TypeVar

T = TypeVar("T")


def make_monitor(trt: ModuleType, on_phase: Callable[[str], None]) -> Any:
    """A progress monitor that reports each phase and stops the build once ``cancelled`` is set."""

    class Monitor(trt.IProgressMonitor):  # type: ignore[name-defined,misc] # known at run time
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.cancelled = False

        def phase_start(self, phase: str, parent: str | None, steps: int) -> None:  # noqa: ARG002
            on_phase(phase)

        def step_complete(self, phase: str, step: int) -> bool:  # noqa: ARG002
            return not self.cancelled

        def phase_finish(self, phase: str) -> None:
            pass

    return Monitor()


@contextlib.contextmanager
def spinner(title: str) -> Iterator[Callable[[str], None]]:
    """Show a spinner, the current phase and the time so far, on a terminal only.

    No bar, for it would lie: TensorRT-RTX 1.7 built a 336 MB network in 1.4 s, and all of its 364
    callbacks came within some 40 ms. The rest went by in three silences, one after the last call.

    Yields:
        A function that takes the name of the phase that begins.
    """
    if not sys.stderr.isatty():
        yield lambda _phase: None
        return
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(title)
        yield lambda phase: progress.update(task, description=f"{title}: {phase.lower()}")


def run_cancellable(work: Callable[[], T], cancel: Callable[[], None]) -> T:
    """Run ``work``, which stays inside C++ for long, so that Ctrl-C is heard meanwhile.

    Python handles signals between bytecodes of the main thread, so the work runs in another one.

    Raises:
        KeyboardInterrupt: Ctrl-C was pressed; ``work`` was told by ``cancel`` and has ended.
    """
    with ThreadPoolExecutor(max_workers=1) as pool:
        future = pool.submit(work)
        try:
            return future.result()
        except KeyboardInterrupt:
            cancel()
            # Who presses it again does not want to wait; no file is open at this time.
            numbers = (signal.SIGINT, signal.SIGTERM)
            handlers = [signal.signal(number, signal.SIG_DFL) for number in numbers]
            future.exception()  # returns when the work has ended
            for number, handler in zip(numbers, handlers, strict=True):
                signal.signal(number, handler)
            raise
