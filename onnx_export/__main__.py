"""``python -m onnx_export``: checkpoint to ONNX."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Literal

from codetr.errors import UserError
from codetr.presets import PRESETS
from onnx_export.stopping import explain, run_stoppable

EXAMPLE = """\
example:
  python -m onnx_export --preset co_dino_swin_l --weights co_dino_swin_l.pth \\
      --height 1280 --width 1920 --precision fp16 -o model.onnx

model.onnx goes to TensorRT with the plugin of this project: python -m trt_build model.onnx
model.ref.onnx is the same in plain ONNX: for ONNX Runtime, TensorRT-RTX and comparisons.
With --precision fp8 --calibration photos/ the measured ranges are kept in model.scales.json.
With --height 320:1280 --width 320:1920 one file takes inputs of every size between, in steps of 32.
Inputs that are multiples of 384 pixels pad no window of Swin-L and are the fastest.
"""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result = argparse.ArgumentParser(
        prog="python -m onnx_export",
        description="Export a Co-DINO checkpoint to ONNX, with the custom nodes and in plain ONNX.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = result.add_argument
    add("--preset", required=True, choices=PRESETS, help="which model")
    add("--weights", required=True, type=Path, help="mmdet .pth or .safetensors")
    sides = "pixels of the padded input, or the smallest and the largest"
    add("--height", required=True, type=_side, metavar="N|MIN:MAX", help=sides)
    add("--width", required=True, type=_side, metavar="N|MIN:MAX", help=sides)
    add("--batch", type=_batch, default=1, metavar="N|dynamic", help="pictures at a time (1)")
    add(
        "--precision",
        choices=("fp32", "fp16", "bf16", "fp8"),
        default="fp32",
        help="type of products and convolutions; norms, coordinates, boxes and scores stay "
        "in float32; fp8: the products of Swin and of the encoder's FFN, the others as with fp16 "
        "(fp32)",
    )
    add(
        "--calibration",
        type=Path,
        metavar="FOLDER|FILE",
        help="for fp8: some dozens of pictures like those the model will see, from which the range "
        "of every fp8 tensor is measured; or NAME.scales.json, where an earlier export of the same "
        "weights kept it",
    )
    add(
        "--kernels",
        choices=("attention", "all"),
        default="all",
        help="what of the plugin to use in half precision: its kernels of attention, which need no "
        "cuBLASLt, or all, those of norms and linear layers too, which are faster (all)",
    )
    add(
        "--no-mask",
        action="store_true",
        help="no padding mask: the graph gets simpler, and pictures have to fill the input",
    )
    add("-o", "--output", required=True, type=Path, help="where to write: NAME.onnx")
    return result


def main(argv: list[str] | None = None) -> int:
    """Run the command; 0 on success, 2 on a user's mistake, 130 if it was cancelled."""
    command_line = parser()
    args = command_line.parse_args(argv)
    started = time.monotonic()

    def report(line: str) -> None:
        print(f"[{time.monotonic() - started:6.1f} s] {line}", file=sys.stderr, flush=True)

    try:
        if not args.weights.is_file():  # known before PyTorch is imported
            raise UserError(f"no checkpoint at {args.weights}; give an mmdet .pth or .safetensors")
        from onnx_export.export import ExportConfig, export

        config = ExportConfig(
            preset=args.preset,
            weights=args.weights,
            height=args.height,
            width=args.width,
            batch=args.batch,
            precision=args.precision,
            mask=not args.no_mask,
            calibration=args.calibration,
            kernels=args.kernels,
        )
        for path in export(config, args.output, report):
            report(f"wrote {path} ({path.stat().st_size / 2**20:.1f} MiB)")
    except (UserError, KeyboardInterrupt) as error:
        return explain(command_line.prog, error, "cancelled, nothing was written")
    return 0


def _batch(text: str) -> int | Literal["dynamic"]:
    return "dynamic" if text == "dynamic" else int(text)


def _side(text: str) -> int | tuple[int, int]:
    smallest, colon, largest = text.partition(":")
    try:
        return (int(smallest), int(largest)) if colon else int(text)
    except ValueError as error:
        message = f"takes PIXELS or MIN:MAX like 320:1280, got {text!r}"
        raise argparse.ArgumentTypeError(message) from error


if __name__ == "__main__":
    run_stoppable("python -m onnx_export", main)
