"""``python -m runtime``: run a model file from the command line."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from runtime.commands import bench, detect, triton_repo
from runtime.commands import eval as evaluate
from runtime.errors import UserError


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        Exit code: 0 done, 2 a user's mistake, told on stderr, 130 interrupted.
    """
    parser = argparse.ArgumentParser(
        prog="python -m runtime",
        description="Run a Co-DETR model file.",
        epilog="Example: python -m runtime detect model.ref.onnx photos/ -o out/",
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in (detect, bench, evaluate, triton_repo):
        command.add_parser(commands)
    try:
        args = parser.parse_args(argv)
        return int(args.run(args))
    except UserError as error:
        print(f"{parser.prog}: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
