"""A folder for files that are not whole yet."""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

_PREFIX = ".onnx-export-"
_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@contextlib.contextmanager
def scratch_folder(parent: Path) -> Iterator[Path]:
    """Yield a new folder, gone at the end; what exports that were killed left is removed.

    It is locked meanwhile, so that others know that it is in use. The lock goes with the process.

    Args:
        parent: where the folder is made; made too if need be.

    Raises:
        OSError: that cannot be written.
    """
    folder = parent / f"{_PREFIX}{secrets.token_hex(8)}"
    locks: list[int] = []
    try:  # before it is made: Ctrl-C may come while it is
        parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(parent)
        folder.mkdir(mode=0o700)
        locks.append(os.open(folder, _OPEN))
        with contextlib.suppress(OSError):  # not every file system has locks
            fcntl.flock(locks[0], fcntl.LOCK_SH | fcntl.LOCK_NB)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        for lock in locks:
            os.close(lock)


def _remove_leftovers(parent: Path) -> None:
    for leftover in parent.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):  # in use, or another's
            lock = os.open(leftover, _OPEN)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(leftover, ignore_errors=True)
            finally:
                os.close(lock)
