"""``python -m trt_build verify``."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from runtime.errors import UserError
from trt_build.commands.parser import PROG, Parser

if TYPE_CHECKING:
    from trt_build.verification import Verification

_EPILOG = f"""\
examples:
  {PROG} verify model.engine --reference model.ref.onnx --images photos/
  {PROG} verify fp16.ref.onnx --reference fp32.ref.onnx     (no GPU needed)

The reference runs in ONNX Runtime on the CPU. First the file itself: detections agree where label,
box (IoU 0.95) and score (0.02) do. Then its stages: an engine with the same recipe and with the
stages as outputs is built, and decodes the queries that the reference chose. A stage is wrong if
its relative error (RMS of the difference / RMS of the reference) is above 1e-3 in fp32, 2e-2 in
fp16, 1e-1 in bf16 or 3e-1 in fp8. Exit code: 0 passed, 1 failed, 2 a mistake in the command."""


def run(arguments: Sequence[str]) -> int:
    """Compare a file with its reference; returns the exit code."""
    args = _parser().parse_args(arguments)
    # The decoders' own messages would repeat ours; OpenCV reads this when first imported.
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")

    import json

    from runtime.files import atomic_output
    from trt_build.requirements import require_writable
    from trt_build.verification import verify

    if args.json:
        require_writable([args.json])
    verification = verify(
        args.model,
        args.reference,
        onnx=args.onnx,
        images=args.images,
        with_stages=not args.no_stages,
        min_agreement=args.min_agreement,
        timing_cache=args.timing_cache,
        plugin_library=args.plugin_lib,
    )
    if args.json:
        with atomic_output(args.json) as file:
            text = json.dumps(verification.to_json(), indent=2, ensure_ascii=False)
            file.write_text(text + "\n", encoding="utf-8")
    _print(verification)
    return 1 if verification.failures() else 0


def _print(verification: Verification) -> None:
    """A table of stages, a line about detections, and the verdict."""
    from trt_build.report import print_table

    pictures = len(verification.pictures)
    kind = (
        "generated pictures; give real ones with --images"
        if verification.generated
        else ("pictures" if pictures > 1 else "picture")
    )
    print(f"{verification.candidate} against {verification.reference}, {pictures} {kind}")
    if verification.stages:
        print_table(
            "stages, with the reference's queries",
            ("stage", "relative error", "largest error", "largest value", ""),
            [
                (
                    stage.name,
                    f"{stage.relative_error:.1e}",
                    f"{stage.max_error:.1e}",
                    f"{stage.max_reference:.1e}",
                    "ok" if stage.within(verification.limit) else "WRONG",
                )
                for stage in verification.stages
            ],
        )
    for what, errors in (
        ("detections", verification.detections),
        ("detections with the reference's queries", verification.same_queries),
    ):
        if errors:
            print(
                f"{what}: {errors.agreement:.2%} agree; scores of equal rank differ by at most "
                f"{errors.max_score_difference:.1e}"
            )
    failures = verification.failures()
    print(f"FAILED: {'; '.join(failures)}" if failures else "PASSED")


def _parser() -> Parser:
    parser = Parser(
        f"{PROG} verify",
        "Compare an engine with the reference graph, end to end and by stages.",
        _EPILOG,
    )
    add = parser.add_argument
    add("model", type=Path, help="model.engine; or a .ref.onnx, which then runs in ONNX Runtime")
    add(
        "--reference",
        type=Path,
        required=True,
        metavar="ONNX",
        help="….ref.onnx of the same weights and size; its precision may be another",
    )
    add(
        "--images",
        type=Path,
        nargs="+",
        default=[],
        metavar="FILE",
        help="pictures, or folders of pictures (default: two generated ones)",
    )
    add(
        "--min-agreement",
        type=_share,
        default=0.99,
        metavar="SHARE",
        help="share of the detections that has to agree, 0 to 1 (default: %(default)s)",
    )
    add("--no-stages", action="store_true", help="only the detections: saves building an engine")
    add(
        "--onnx",
        type=Path,
        metavar="FILE",
        help="what the engine was built from (default: the file beside it that its manifest names)",
    )
    add(
        "--timing-cache",
        type=Path,
        metavar="FILE",
        help="kernel times, read and written back: the build for the stages is faster",
    )
    add(
        "--plugin-lib",
        type=Path,
        metavar="FILE",
        help="our TensorRT plugin (default: the one built by python -m plugin build)",
    )
    add("--json", type=Path, metavar="FILE", help="write everything that was found there")
    return parser


def _share(text: str) -> float:
    try:
        share = float(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"takes a number from 0 to 1, got {text!r}") from error
    if not 0 <= share <= 1:
        raise UserError(f"--min-agreement takes a number from 0 to 1, got {text}")
    return share
