"""Files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import hashlib
import secrets
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
        raise UserError(
            f"cannot write {path}: {error.strerror}; choose a folder that can be written"
        ) from error
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
