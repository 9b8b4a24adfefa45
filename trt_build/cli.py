"""The command line: ``python -m trt_build model.onnx -o model.engine`` and its sub-commands."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

from runtime.errors import UserError
from runtime.stopping import explain

_COMMANDS = ("inspect", "polygraphy", "verify")
"""Modules of ``trt_build.commands``; what is none of them is what to build."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Returns:
        Exit code: 0 done, 1 what a command looked for is not so, 2 a user's mistake, 130 cancelled.
    """
    arguments = sys.argv[1:] if argv is None else list(argv)
    name = arguments.pop(0) if arguments and arguments[0] in _COMMANDS else "build"
    command = importlib.import_module(f"trt_build.commands.{name}")
    try:
        return int(command.run(arguments))
    except (UserError, KeyboardInterrupt) as error:
        return explain("trt_build", error, "cancelled, nothing was written")
