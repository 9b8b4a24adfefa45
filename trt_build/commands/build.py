"""``python -m trt_build model.onnx -o model.engine``, or from a checkpoint with ``--weights``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from runtime.errors import UserError
from trt_build.commands.parser import PROG, Parser
from trt_build.export_first import ExportRequest, export_first

_EPILOG = f"""\
examples:
  {PROG} model.onnx -o model.engine
  {PROG} model.ref.onnx -o model.engine --backend tensorrt-rtx --compute-capability 8.9,12.0
  {PROG} model.ref.onnx -o model.engine --batch 1,4,16     (ONNX exported with a dynamic batch)
  {PROG} --preset co_dino_swin_l --weights co_dino_swin_l.pth --height 1280 --width 1920 \\
      --precision fp16 -o model.engine     (exports model.onnx and model.ref.onnx first)

other commands:
  {PROG} inspect model.engine      I/O, options, sizes, layers by type and precision
  {PROG} verify model.engine --reference model.ref.onnx      is it as good as the model?
  {PROG} polygraphy TOOL …         NVIDIA's Polygraphy, with our plugin

Precision is decided in the export, so --precision is one of the export's options. Beside the engine
appears its manifest, model.engine.json. What is there already is not made again: ONNX files of the
same weights and settings, and an engine of the same ONNX, options, TensorRT and GPU."""

_NEEDED_FOR_EXPORT = ("preset", "height", "width")
_EXPORT_ONLY = (*_NEEDED_FOR_EXPORT, "precision", "calibration", "kernels", "no_mask")


def run(arguments: Sequence[str]) -> int:
    """Build an engine; returns the exit code."""
    args = _parser().parse_args(arguments)
    _require_one_source(args)

    from trt_build.backend import choose_backend
    from trt_build.build import build_engine, check_request
    from trt_build.options import BuildOptions
    from trt_build.report import summary_line

    options = BuildOptions(
        workspace_gib=args.workspace,
        optimization_level=args.optimization_level,
        compute_capabilities=tuple(c for group in args.compute_capability for c in group),
        batch=args.batch,
        aux_streams=args.aux_streams,
        hardware_compatibility=args.hardware_compatibility,
        version_compatible=args.version_compatible,
        profiling_verbosity=args.profiling_verbosity,
    )
    backend = choose_backend(args.backend)
    onnx = args.onnx
    if onnx is None:
        check_request(args.output, backend=backend, options=options, timing_cache=args.timing_cache)
        code, onnx = export_first(
            _export_request(args),
            args.output,
            backend=backend,
            plugin_library=args.plugin_lib,
            force=args.force,
        )
        if code != 0:
            return code
    result = build_engine(
        onnx,
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


def _require_one_source(args: argparse.Namespace) -> None:
    """Either an ONNX, or a checkpoint with all that an export has to know."""

    def names(options: Sequence[str]) -> str:
        return ", ".join(f"--{option.replace('_', '-')}" for option in options)

    if args.weights is None:
        if given := [option for option in _EXPORT_ONLY if getattr(args, option)]:
            raise UserError(f"{names(given)}: only an export takes that; give --weights too")
        if args.onnx is None:
            raise UserError(f"give an ONNX file, or --weights, {names(_NEEDED_FOR_EXPORT)}")
        return
    if args.onnx is not None:
        raise UserError(f"got the ONNX {args.onnx} and --weights {args.weights}; give one of them")
    if missing := [option for option in _NEEDED_FOR_EXPORT if getattr(args, option) is None]:
        raise UserError(f"--weights needs {names(missing)} too")


def _export_request(args: argparse.Namespace) -> ExportRequest:
    return ExportRequest(
        preset=args.preset,
        weights=args.weights,
        height=args.height,
        width=args.width,
        precision=args.precision or "fp32",
        mask=not args.no_mask,
        dynamic_batch=args.batch is not None,
        calibration=args.calibration,
        kernels=args.kernels or "all",
    )


def _parser() -> Parser:
    parser = Parser(PROG, "Build a TensorRT or TensorRT-RTX engine from an exported ONNX.", _EPILOG)
    add = parser.add_argument
    add("onnx", type=Path, nargs="?", help="model.onnx (TensorRT), model.ref.onnx (either backend)")
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
        help="batches of an ONNX with a dynamic batch (default: 1,1,8); with --weights, the batch "
        "is dynamic if this is given, else 1",
    )
    add("--workspace", type=float, metavar="GIB", help="scratch memory limit (default: the GPU's)")
    add(
        "--aux-streams",
        type=int,
        metavar="N",
        help="most CUDA streams beside the caller's (tensorrt only; default: as it sees fit)",
    )
    add(
        "--hardware-compatibility",
        default="none",
        metavar="LEVEL",
        help="none (this GPU's model), ampere-plus or same-compute-capability: the engine runs on "
        "those GPUs too, and slower (tensorrt only; default: none)",
    )
    add(
        "--version-compatible",
        action="store_true",
        help="later TensorRT releases of this major version run the engine too; it then holds "
        "code that the runtime executes (tensorrt only)",
    )
    add(
        "--profiling-verbosity",
        default="detailed",
        metavar="LEVEL",
        help="detailed, layer-names-only or none: what the engine tells of its layers; less than "
        "detailed, and its precisions cannot be read back (default: detailed)",
    )
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
    _add_export_options(parser)
    return parser


def _add_export_options(parser: Parser) -> None:
    group = parser.add_argument_group(
        "from a checkpoint", "Runs python -m onnx_export first, whose help says more."
    )
    add = group.add_argument
    add("--weights", type=Path, metavar="FILE", help="mmdet .pth or .safetensors, not an ONNX")
    add("--preset", metavar="NAME", help="which model: co_dino_swin_l, for one")
    sides = "of the padded input; MIN:MAX for an engine of any size between"
    add("--height", type=_side, metavar="PIXELS", help=sides)
    add("--width", type=_side, metavar="PIXELS", help=sides)
    add("--precision", metavar="TYPE", help="fp32, fp16, bf16 or fp8 (default: fp32)")
    add(
        "--calibration",
        type=Path,
        metavar="FOLDER|FILE",
        help="for fp8: pictures to measure ranges with, anew each time; or the .scales.json that "
        "is beside the engine afterwards",
    )
    add(
        "--kernels",
        metavar="WHICH",
        help="of the plugin in half precision: attention, or all, which is faster (default: all)",
    )
    add("--no-mask", action="store_true", help="pictures fill the input: no padding mask")


def _side(text: str) -> int | list[int]:
    """``"640"`` → 640, ``"320:1280"`` → [320, 1280]."""
    smallest, colon, largest = text.partition(":")
    try:
        return [int(smallest), int(largest)] if colon else int(text)
    except ValueError as error:
        message = f"takes PIXELS or MIN:MAX like 320:1280, got {text!r}"
        raise argparse.ArgumentTypeError(message) from error


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
