"""Files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import functools
import hashlib
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from runtime.errors import UserError

_PREFIX = ".codetr-"
_TEMPORARY = re.compile(re.escape(_PREFIX) + r"[0-9a-f]{16}(\..*)?")
_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)


class NotWritableError(UserError):
    """A file or folder cannot be written, or finds no room."""


@contextlib.contextmanager
def atomic_output(path: Path) -> Iterator[Path]:
    """Yield an empty temporary file beside ``path``; it becomes ``path`` if the block succeeds.

    The parent folder is made if need be. After any exception ``path`` is as it was before. What
    processes that were killed left in that folder is removed.

    Raises:
        NotWritableError: the folder cannot be made or written, or the disk is full.
    """
    # The suffix stays last: picture writers choose the format by it. Without the stem, so that
    # no name which fits the file system becomes too long.
    with (
        _temporary(path, path.suffix, lambda file: file.touch(exist_ok=False)) as temporary,
        room_for(path),
    ):
        yield temporary
        _rename(temporary, path)


@contextlib.contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield an empty temporary folder beside ``path``; it becomes ``path`` if the block succeeds.

    The parent folder is made if need be. After any exception ``path`` is as it was before. What
    processes that were killed left in the parent folder is removed.

    Raises:
        NotWritableError: ``path`` cannot be made, or the disk is full.
        UserError: ``path`` exists and is not an empty folder.
    """
    path = path.resolve()  # the name of "." can be changed only as that of the folder it is
    try:
        if path.exists() and not (path.is_dir() and not any(path.iterdir())):
            raise UserError(f"{path} is there already; remove it, or give another name")
    except OSError as error:
        raise _not_writable(path, error) from error
    with _temporary(path, "", Path.mkdir) as temporary, room_for(path):
        yield temporary
        _rename(temporary, path)  # refuses a folder that holds something by now


@contextlib.contextmanager
def room_for(path: Path) -> Iterator[None]:
    """Say of a full disk which file finds no room; for each where a block writes several.

    Raises:
        NotWritableError: the disk is full.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise
        raise NotWritableError(f"cannot write {path}: {error.strerror}; make room there") from error


@contextlib.contextmanager
def _temporary(path: Path, suffix: str, make: Callable[[Path], None]) -> Iterator[Path]:
    """A new file or folder beside ``path``; removed if it is still there at the end.

    It is locked meanwhile: so others know that it is in use. The lock goes with the process.
    """
    temporary = path.with_name(f"{_PREFIX}{secrets.token_hex(8)}{suffix}")
    locks: list[int] = []
    try:  # before it is made: Ctrl-C may come while it is
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            _remove_leftovers(path.parent.resolve())
            while not locks or not temporary.exists():
                make(temporary)
                # Not there: another process took it for left over before it was locked.
                with contextlib.suppress(FileNotFoundError):
                    locks.append(os.open(temporary, _OPEN))
                    with contextlib.suppress(OSError):  # not every file system has locks
                        fcntl.flock(locks[-1], fcntl.LOCK_SH)
        except OSError as error:
            raise _not_writable(path, error) from error
        yield temporary
    finally:
        _remove(temporary)
        for lock in locks:
            os.close(lock)


@functools.cache
def _remove_leftovers(folder: Path) -> None:
    """Remove what killed processes left there; once in a process, for a folder may be large."""
    with os.scandir(folder) as entries:
        found = [Path(entry) for entry in entries if _TEMPORARY.fullmatch(entry.name)]
    for leftover in found:
        with contextlib.suppress(OSError):  # in use, or another's
            lock = os.open(leftover, _OPEN)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _remove(leftover)
            finally:
                os.close(lock)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink()


def _rename(temporary: Path, path: Path) -> None:
    try:
        temporary.replace(path)
    except OSError as error:
        raise NotWritableError(f"cannot write {path}: {error.strerror}; remove it") from error


def _not_writable(path: Path, error: OSError) -> NotWritableError:
    return NotWritableError(
        f"cannot write {path}: {error.strerror}; choose a folder that can be written"
    )


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
