"""``python -m trt_build inspect``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from trt_build.commands.parser import PROG, Parser

_EPILOG = f"""\
example:
  {PROG} inspect model.engine --json | jq .layers"""


def run(arguments: Sequence[str]) -> int:
    """Print what an engine is; returns the exit code."""
    parser = Parser(
        f"{PROG} inspect", "Say what an engine is: I/O, options, sizes, layers.", _EPILOG
    )
    parser.add_argument("engine", type=Path, help="an engine with its manifest beside it")
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    args = parser.parse_args(arguments)

    from trt_build.inspection import inspect_engine

    description = inspect_engine(args.engine)
    if args.json:
        import json

        print(json.dumps(description, indent=2, ensure_ascii=False))
        return 0
    from trt_build.report import print_tables

    print_tables(args.engine, description)
    return 0
