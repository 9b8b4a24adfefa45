"""One build of an engine at a time, whichever processes ask for it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from runtime.errors import UserError


@contextlib.contextmanager
def only_build_of(engine: Path) -> Iterator[None]:
    """Keep other builds of the same engine waiting; wait for the one that is running.

    The lock is a hidden file beside the engine, or above where its folder is not made yet. The
    kernel gives it back however its process ends; the file goes with the last build.

    Raises:
        UserError: the file cannot be made.
    """
    folder = next(parent for parent in engine.absolute().parents if parent.is_dir())
    path = folder / f".{engine.name}.lock"
    while True:
        try:
            # No link is followed: it might lead to a file that is not ours.
            flags = os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
            descriptor = os.open(path, flags, 0o600)
        except OSError as error:
            raise UserError(
                f"cannot write {path}: {error.strerror}; remove it, or choose another -o"
            ) from error
        with os.fdopen(descriptor):
            _wait_for(descriptor, engine)
            if _is_still(path, descriptor):
                try:
                    yield
                finally:
                    path.unlink(missing_ok=True)
                return


def _wait_for(descriptor: int, engine: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print(f"{engine} is being built by another process; waiting for it", file=sys.stderr)
        fcntl.flock(descriptor, fcntl.LOCK_EX)


def _is_still(path: Path, descriptor: int) -> bool:
    """Whether the locked file has not been removed by the build that was waited for."""
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
