"""How often properties are tried: some dozens of times, or as often as ``FUZZ`` says."""

import os
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, settings

from codetr.errors import UserError as TorchUserError
from runtime.errors import UserError

EXAMPLES = int(os.environ.get("FUZZ", "30"))

fuzz = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,  # the same every time
    database=None,
    suppress_health_check=list(HealthCheck),
)


def read_or_refused(read: Callable[..., Any], *arguments: Any) -> Any:
    """What is read; None if that was refused by an error of ours, on one line."""
    try:
        return read(*arguments)
    except (UserError, TorchUserError) as error:
        assert str(error)
        assert "\n" not in str(error)
        return None
