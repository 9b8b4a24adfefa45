"""The command line: ``python -m trt_build model.onnx -o model.engine`` and its sub-commands."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from runtime.errors import UserError

_PROG = "python -m trt_build"
_BUILD_EPILOG = f"""\
examples:
  {_PROG} model.onnx -o model.engine
  {_PROG} model.ref.onnx -o model.engine --backend tensorrt-rtx --compute-capability 8.9,12.0
  {_PROG} model.ref.onnx -o model.engine --batch 1,4,16     (ONNX exported with a dynamic batch)

other commands:
  {_PROG} inspect model.engine      I/O, options, sizes, layers by type and precision

Precision is decided when the ONNX is exported; there is no option for it here. Beside the engine
appears its manifest, model.engine.json. An engine with the same recipe is reused, not rebuilt."""
_INSPECT_EPILOG = f"""\
example:
  {_PROG} inspect model.engine --json | jq .layers"""


class _Parser(argparse.ArgumentParser):
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
        raise UserError(f"{message}; see {self.prog} --help")


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code: 0 done, 2 a user's mistake, 130 cancelled."""
    arguments = sys.argv[1:] if argv is None else list(argv)
    command: Callable[[list[str]], None] = _build
    if arguments and arguments[0] in _COMMANDS:
        command = _COMMANDS[arguments.pop(0)]
    try:
        command(arguments)
    except UserError as error:
        print(f"trt_build: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("trt_build: cancelled, nothing was written", file=sys.stderr)
        return 130
    return 0


def _build(arguments: list[str]) -> None:
    args = _build_parser().parse_args(arguments)

    from trt_build.backend import choose_backend
    from trt_build.build import build_engine
    from trt_build.options import BuildOptions
    from trt_build.report import summary_line

    options = BuildOptions(
        workspace_gib=args.workspace,
        optimization_level=args.optimization_level,
        compute_capabilities=tuple(c for group in args.compute_capability for c in group),
        batch=args.batch,
    )
    backend = choose_backend(args.backend)
    result = build_engine(
        args.onnx,
        args.output,
        backend=backend,
        options=options,
        timing_cache=args.timing_cache,
        plugin_library=args.plugin_lib,
        force=args.force,
        verbose=args.verbose,
    )
    print(summary_line(args.output, backend.title, result))


def _inspect(arguments: list[str]) -> None:
    parser = _Parser(
        f"{_PROG} inspect", "Say what an engine is: I/O, options, sizes, layers.", _INSPECT_EPILOG
    )
    parser.add_argument("engine", type=Path, help="an engine with its manifest beside it")
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    args = parser.parse_args(arguments)

    from trt_build.inspection import inspect_engine

    description = inspect_engine(args.engine)
    if args.json:
        import json

        print(json.dumps(description, indent=2, ensure_ascii=False))
        return
    from trt_build.report import print_tables

    print_tables(args.engine, description)


_COMMANDS: dict[str, Callable[[list[str]], None]] = {"inspect": _inspect}


def _build_parser() -> _Parser:
    parser = _Parser(
        _PROG, "Build a TensorRT or TensorRT-RTX engine from an exported ONNX.", _BUILD_EPILOG
    )
    add = parser.add_argument
    add("onnx", type=Path, help="model.onnx (TensorRT), model.ref.onnx (either backend)")
    add("-o", "--output", type=Path, required=True, metavar="ENGINE", help="where the engine goes")
    add(
        "--backend",
        metavar="NAME",
        help="tensorrt or tensorrt-rtx (default: tensorrt if it is installed, else tensorrt-rtx)",
    )
    add(
        "--compute-capability",
        type=_words,
        action="append",
        default=[],
        metavar="CC",
        help="GPUs to build for, e.g. 8.9,12.0; may be repeated "
        "(tensorrt-rtx only; default: 8.9, the RTX 40 series)",
    )
    add(
        "--batch",
        type=_three_integers,
        metavar="MIN,OPT,MAX",
        help="batches of an ONNX with a dynamic batch (default: 1,1,8)",
    )
    add("--workspace", type=float, metavar="GIB", help="scratch memory limit (default: the GPU's)")
    add(
        "--optimization-level",
        type=int,
        metavar="N",
        help="0 to 5, how long to look for fast kernels (default: 3; no effect in tensorrt-rtx)",
    )
    add(
        "--timing-cache",
        type=Path,
        metavar="FILE",
        help="kernel times, read and written back: later builds are faster (tensorrt only)",
    )
    add(
        "--plugin-lib",
        type=Path,
        metavar="FILE",
        help="our TensorRT plugin (default: the one built by python -m plugin build)",
    )
    add("--force", action="store_true", help="build even if the same engine is there already")
    add("--verbose", action="store_true", help="print all that the backend logs")
    return parser


def _words(text: str) -> list[str]:
    """``"8.9,12.0"`` → ``["8.9", "12.0"]``."""
    return text.split(",")


def _three_integers(text: str) -> tuple[int, int, int]:
    """``"1,4,16"`` → ``(1, 4, 16)``."""
    try:
        smallest, common, largest = map(int, text.split(","))
    except ValueError as error:
        message = f"takes MIN,OPT,MAX like 1,4,16, got {text!r}"
        raise argparse.ArgumentTypeError(message) from error
    return smallest, common, largest
