"""``python -m trt_build model.onnx -o model.engine``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from trt_build.commands.parser import PROG, Parser

_EPILOG = f"""\
examples:
  {PROG} model.onnx -o model.engine
  {PROG} model.ref.onnx -o model.engine --backend tensorrt-rtx --compute-capability 8.9,12.0
  {PROG} model.ref.onnx -o model.engine --batch 1,4,16     (ONNX exported with a dynamic batch)

other commands:
  {PROG} inspect model.engine      I/O, options, sizes, layers by type and precision

Precision is decided when the ONNX is exported; there is no option for it here. Beside the engine
appears its manifest, model.engine.json. An engine with the same recipe is reused, not rebuilt."""


def run(arguments: Sequence[str]) -> int:
    """Build an engine; returns the exit code."""
    args = _parser().parse_args(arguments)

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
    return 0


def _parser() -> Parser:
    parser = Parser(PROG, "Build a TensorRT or TensorRT-RTX engine from an exported ONNX.", _EPILOG)
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
