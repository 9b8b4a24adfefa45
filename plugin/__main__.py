"""``python -m plugin build``."""

from __future__ import annotations

import argparse

from runtime.errors import UserError
from runtime.stopping import explain, run_stoppable

_PROG = "python -m plugin"
_EPILOG = f"""\
examples:
  {_PROG} build                        for every GPU that TensorRT and the compiler support
  {_PROG} build --architectures 90     for one only (H100, H200): compiles faster

nvcc: CUDACXX or a CUDA toolkit, otherwise it is fetched from PyPI into build/cuda.
TensorRT's headers: TENSORRT_INCLUDE_DIR or installed ones, otherwise fetched by cargo or git."""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=_PROG,
        description="Compile the TensorRT plugin into this package.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("command", choices=["build"])
    parser.add_argument(
        "--architectures", metavar="LIST", help='compute capabilities as CMake takes them: "80;90"'
    )
    parser.add_argument(
        "--tests", action="store_true", help="also build what the kernel tests and benchmark call"
    )
    return parser


def main() -> int:
    """Run the command; returns the exit code: 0 done, 2 a user's mistake, 130 cancelled."""
    args = _parser().parse_args()

    from plugin.build import build_plugin

    try:
        print(build_plugin(architectures=args.architectures, tests=args.tests))
    except (UserError, KeyboardInterrupt) as error:
        return explain("plugin", error, "cancelled, no library was written")
    return 0


run_stoppable("plugin", main)
