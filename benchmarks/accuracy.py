"""COCO AP of the digits detector in every precision and backend, on the same 500 pictures.

PyTorch in float32 is what the others are judged by. ``python -m benchmarks.tables FOLDER`` makes
a table of what lies in the folder of results.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.pytorch_model import PyTorchModel
from codetr.errors import UserError as ModelError
from codetr.training.dataset import ANNOTATIONS
from runtime.coco_dataset import CocoDataset, read_dataset
from runtime.commands.progress import track
from runtime.detector import Detector
from runtime.errors import UserError
from runtime.evaluation import Evaluation, evaluate
from runtime.evaluation_report import accuracy_row, describe_machine
from runtime.files import atomic_output

PRESET = "co_dino_digits"
SIZE = (512, 512)
"""Height and width of the input, in pixels."""
PICTURES, SEED = 500, 1
"""How many pictures the test set has, and what they are made from."""
CALIBRATION, CALIBRATION_SEED = 32, 2
"""The same of those that fp8 is calibrated with, which have the digits of the training."""
PRECISIONS = {
    "pytorch": ("fp32",),
    "onnxruntime": ("fp32", "fp16", "fp8"),  # its CPU kernels know no bfloat16
    "tensorrt": ("fp32", "fp16", "bf16", "fp8"),
}
"""Of each backend."""


def make_pictures(work: Path) -> CocoDataset:
    """The test set, made in ``work`` unless it is there."""
    folder = work / "pictures"
    _make(folder, "test", PICTURES, SEED)
    return read_dataset(folder / ANNOTATIONS, folder)


def _make(folder: Path, split: str, count: int, seed: int) -> None:
    if not folder.exists():
        options = ("--split", split, "--count", str(count), "--seed", str(seed))
        run("codetr.training.dataset", *options, "-o", folder)


def export_options(weights: Path, precision: str, work: Path) -> list[str | Path]:
    """What ``onnx_export`` and ``trt_build`` are told of the model.

    Args:
        weights: of the digits detector.
        precision: any.
        work: folder that gets the pictures for fp8, unless they are there.
    """
    size = ("--height", str(SIZE[0]), "--width", str(SIZE[1]))
    options = ["--preset", PRESET, "--weights", weights, *size, "--precision", precision]
    if precision == "fp8":
        pictures = work / "calibration"
        _make(pictures, "train", CALIBRATION, CALIBRATION_SEED)
        options += ["--calibration", pictures]
    return options


def judge(detector: Detector, pictures: CocoDataset) -> Evaluation:
    """What ``runtime eval`` does with a model file."""
    return evaluate(detector, pictures, score_threshold=0.0, track=track)


def measure(backend: str, precision: str, weights: Path, work: Path, result: Path) -> None:
    """Make one model file, if there is none yet, and store what ``runtime eval`` says of it.

    Args:
        backend: a key of ``PRECISIONS``, not PyTorch.
        precision: one of the backend's.
        weights: of the digits detector.
        work: folder with the pictures, which gets the model files.
        result: JSON file to write.

    Raises:
        subprocess.CalledProcessError: a command failed; it has said why.
    """
    options = export_options(weights, precision, work)
    if backend == "tensorrt":
        model = work / f"{precision}.engine"
        cache = ("--timing-cache", work / "timing.cache")
        run("trt_build", *options, "-o", model, "--backend", "tensorrt", *cache)
    else:
        model = work / f"{precision}.ref.onnx"
        run("onnx_export", *options, "-o", work / f"{precision}.onnx")
    pictures = work / "pictures"
    data = ("--annotations", pictures / ANNOTATIONS, "--images", pictures)
    run("runtime", "eval", model, *data, "--json", result)


def measure_pytorch(weights: Path, pictures: CocoDataset, result: Path) -> None:
    """Store the AP of PyTorch in float32 on the CPU, in the form of ``runtime eval``.

    Raises:
        codetr.errors.UserError: the weights cannot be used.
    """
    with Detector(PyTorchModel(PRESET, weights, SIZE)) as detector, atomic_output(result) as file:
        row = accuracy_row(
            judge(detector, pictures),
            pictures,
            detector,
            paths=[weights],
            nms="soft",
            score_threshold=0.0,
        )
        command = f"python -m benchmarks.accuracy {shlex.join(sys.argv[1:])}"
        report = {"machine": describe_machine(detector.model), "command": command, "rows": [row]}
        file.write_text(json.dumps(report, indent=2) + "\n")


def run(module: str, *arguments: str | Path) -> None:
    """Run a command of this project; ``CalledProcessError`` if it failed."""
    subprocess.run([sys.executable, "-m", module, *map(str, arguments)], check=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; 0 on success, 2 on a user's mistake."""
    command_line = parser()
    args = command_line.parse_args(argv)
    try:
        if not args.weights.is_file():  # known before pictures are made for minutes
            raise UserError(f"no weights at {args.weights}; give those of {PRESET}")
        pictures = make_pictures(args.work)
        for backend in args.backends:
            for precision in PRECISIONS[backend]:
                result = args.results / f"{backend}-{precision}.json"
                if backend == "pytorch":
                    measure_pytorch(args.weights, pictures, result)
                else:
                    measure(backend, precision, args.weights, args.work, result)
    except (UserError, ModelError) as error:
        print(f"{command_line.prog}: error: {error}", file=sys.stderr)
        return 2
    except subprocess.CalledProcessError as error:
        return error.returncode
    return 0


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result = argparse.ArgumentParser(
        prog="python -m benchmarks.accuracy",
        description=__doc__,
        epilog="example: python -m benchmarks.accuracy --work runs/accuracy --results "
        "benchmarks/results/digits --weights codetr/trained/co_dino_digits/weights.safetensors",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = result.add_argument
    add("--weights", type=Path, required=True, help=f"of {PRESET}")
    add("--work", type=Path, required=True, help="folder for pictures, ONNX files and engines")
    add("--results", type=Path, required=True, help="folder for the JSON files")
    add(
        "--backends",
        nargs="+",
        choices=PRECISIONS,
        default=["pytorch", "onnxruntime"],
        help="tensorrt needs a GPU (default: the other two)",
    )
    return result


if __name__ == "__main__":
    sys.exit(main())
