"""Ctrl-C and SIGTERM end a command soon and in one line, with nothing half written.

``onnx_export.stopping`` is the same file: the two sides share no code.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any, NoReturn

_AGAIN_SECONDS = 0.01
_UNWRITTEN = (errno.ENOSPC, errno.EPIPE, errno.EFBIG)
"""Of stdout; those of files are told as a user's mistake."""


class _Stop:
    """Raises KeyboardInterrupt wherever the main thread is, so that what is open is closed."""

    def __init__(self) -> None:
        self.number = 0
        """Of the first signal that came."""

    def __call__(self, number: int, _frame: FrameType | None) -> None:
        self.number = self.number or number
        raise KeyboardInterrupt

    def unraisable(self, lost: Any) -> None:
        """Python drops what is raised in a destructor or a callback: raise it again, soon."""
        if self.number and issubclass(lost.exc_type, KeyboardInterrupt):
            signal.setitimer(signal.ITIMER_REAL, _AGAIN_SECONDS)
        else:
            sys.__unraisablehook__(lost)


_stop = _Stop()


def run_stoppable(name: str, main: Callable[[], int]) -> NoReturn:
    """Run a command as the whole of this process, then end the process.

    SIGINT and SIGTERM raise KeyboardInterrupt in it. The exit code is the command's, but 143
    where it returns 130 because of SIGTERM; 2 if stdout cannot be written.

    Args:
        name: how messages begin.
        main: returns the exit code, 130 after KeyboardInterrupt.
    """
    numbers = [
        number
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)
        if signal.getsignal(number) is not signal.SIG_IGN  # a shell's background jobs ignore it
    ]
    for number in numbers:
        signal.signal(number, _stop)
    sys.unraisablehook = _stop.unraisable
    code, problem = 0, None
    try:
        try:
            code = main()
        finally:  # nothing is open any more
            for number in numbers:
                signal.signal(number, signal.SIG_DFL)
    except BaseException as error:
        if _stop.number:
            code = explain(name, error)
        elif isinstance(error, OSError) and error.errno in _UNWRITTEN:
            problem = error.strerror
        else:
            raise
    if problem := problem or _stdout_problem():
        print(f"{name}: error: cannot write what it prints: {problem}", file=sys.stderr)
        _end(2)  # at once: Python would try again
    if _stop.number and code == 130:
        _end(128 + _stop.number)  # without waiting for what other threads are at
    sys.exit(code)


def explain(name: str, error: BaseException, cancelled: str = "cancelled") -> int:
    """Say on stderr why a command ends.

    Args:
        name: of the command.
        error: a user's mistake, or KeyboardInterrupt. After a signal it may be anything: libraries
            that are being imported then fail with errors of their own.
        cancelled: what to say after a signal.

    Returns:
        The exit code: 2 after a mistake, 130 after a signal.
    """
    if _stop.number or isinstance(error, KeyboardInterrupt):
        print(f"{name}: {cancelled}", file=sys.stderr)
        return 130
    print(f"{name}: error: {error}", file=sys.stderr)
    return 2


def _stdout_problem() -> str | None:
    """Why what was printed does not get through, if so."""
    try:
        sys.stdout.flush()
    except OSError as error:
        return error.strerror
    return None


def _end(code: int) -> NoReturn:
    sys.stderr.flush()
    os._exit(code)
