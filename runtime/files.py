"""Files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import hashlib
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

from runtime.errors import UserError


@contextlib.contextmanager
def atomic_output(path: Path) -> Iterator[Path]:
    """Yield an empty temporary file beside ``path``; it becomes ``path`` if the block succeeds.

    The parent folder is made if need be. After any exception ``path`` is as it was before.

    Raises:
        UserError: the folder cannot be made or written.
    """
    # The suffix stays last: picture writers choose the format by it. Without the stem, so that
    # no name which fits the file system becomes too long.
    temporary = path.with_name(f".{secrets.token_hex(8)}{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.touch(exist_ok=False)
    except OSError as error:
        raise _not_writable(path, error) from error
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield an empty temporary folder beside ``path``; it becomes ``path`` if the block succeeds.

    The parent folder is made if need be. After any exception ``path`` is as it was before.

    Raises:
        UserError: ``path`` exists and is not an empty folder, or cannot be made.
    """
    path = path.resolve()  # the name of "." can be changed only as that of the folder it is
    temporary = path.with_name(f".{secrets.token_hex(8)}")
    try:
        if path.exists() and not (path.is_dir() and not any(path.iterdir())):
            raise UserError(f"{path} is there already; remove it, or give another name")
        temporary.mkdir(parents=True)
    except OSError as error:
        raise _not_writable(path, error) from error
    try:
        yield temporary
        temporary.rename(path)  # refuses a folder that holds something by now
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _not_writable(path: Path, error: OSError) -> UserError:
    return UserError(f"cannot write {path}: {error.strerror}; choose a folder that can be written")


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
