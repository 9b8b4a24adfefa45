"""What the command lines of all commands have in common."""

from __future__ import annotations

import argparse
from typing import NoReturn

from runtime.errors import UserError

PROG = "python -m trt_build"


class Parser(argparse.ArgumentParser):
    """Options cannot be abbreviated, and a wrong one is a user's mistake like any other."""

    def __init__(self, prog: str, description: str, epilog: str) -> None:
        super().__init__(
            prog=prog,
            description=description,
            epilog=epilog,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )

    def error(self, message: str) -> NoReturn:
        """Say it in one line instead of the usage."""
        raise UserError(f"{message}; see {self.prog} --help")
