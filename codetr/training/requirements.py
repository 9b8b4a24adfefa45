"""Packages that training needs and an export does not."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.util import find_spec

from codetr.errors import UserError


def require(packages: Iterable[str]) -> None:
    """Refuse to go on without them.

    Raises:
        UserError: some are not installed.
    """
    missing = [name for name in packages if find_spec(name) is None]
    if missing:
        raise UserError(f'{", ".join(missing)} missing: pip install -e ".[training]"')
