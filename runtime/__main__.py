"""``python -m runtime``: run a model file from the command line."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from runtime.errors import UserError
from runtime.stopping import explain, run_stoppable


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        Exit code: 0 done, 2 a user's mistake, told on stderr, 130 after Ctrl-C.
    """
    from runtime.commands import bench, detect, triton_repo
    from runtime.commands import eval as evaluate

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
    except (UserError, KeyboardInterrupt) as error:
        return explain(parser.prog, error)


if __name__ == "__main__":
    run_stoppable("python -m runtime", main)
