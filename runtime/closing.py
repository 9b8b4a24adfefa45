"""What a ``with`` block closes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from types import TracebackType
from typing import Self


class Closing(ABC):
    """Gives ``with`` blocks to classes that have ``close``."""

    @abstractmethod
    def close(self) -> None:
        """Give back what is held; harmless when called again."""

    def __enter__(self) -> Self:
        """Nothing happens until the end of the block."""
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close."""
        self.close()
