"""``python -m runtime eval``: COCO AP of a model file."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

from runtime.commands.options import (
    add_detection_options,
    add_model_or_folder,
    check_output,
    optional_output,
    whole_number,
    write_result,
)
from runtime.commands.progress import track
from runtime.errors import UserError
from runtime.files import room_for
from runtime.manifest import manifest_path

_DESCRIPTION = """\
Detect in the pictures of a data set in COCO's format and compare with its annotations: the 12
figures of COCO as pycocotools gives them, and AP of each class. Categories are told by their
names, not by their ids.
"""
_EPILOG = """\
Example: python -m runtime eval model.engine --annotations instances_val2017.json \\
             --images val2017/ --json accuracy.json

Pictures are resized to the model file's input as in detection, so the file decides the test size.
The released Swin-L checkpoint is published with 64.1 AP on COCO val2017 (not measured here), its
pictures fitted into 2048 x 1280, portrait ones into 1280 x 2048. Give a folder with two engines,
exported with --height 1280 --width 2048 and with --height 2048 --width 1280, for the same; in the
first alone portrait pictures become smaller, so expect less of it.
"""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``eval`` to the command line."""
    parser = commands.add_parser(
        "eval",
        help="measure accuracy (COCO AP)",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add_model_or_folder(parser)
    parser.add_argument(
        "--annotations", metavar="FILE", type=Path, required=True, help="COCO annotation file"
    )
    parser.add_argument(
        "--images", metavar="DIR", type=Path, required=True, help="folder of its pictures"
    )
    add_detection_options(parser, default_score=0.0)  # as in the published evaluation
    parser.add_argument(
        "--limit",
        metavar="N",
        type=whole_number("--limit", 1),
        help="evaluate only the first N pictures of the annotation file",
    )
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the figures there too")
    parser.add_argument(
        "--save-detections",
        metavar="FILE",
        type=Path,
        help="write the detections there, in COCO's result format",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Evaluate, print the figures, write the files.

    Returns:
        Exit code: 0, or 2 if a picture could not be read.

    Raises:
        UserError: a file or an option cannot be used.
    """
    # The decoders' own messages would repeat ours; OpenCV reads this when first imported.
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
    from runtime.coco_ap import require_pycocotools
    from runtime.coco_dataset import read_dataset
    from runtime.detector import Detector
    from runtime.evaluation import evaluate
    from runtime.evaluation_report import accuracy_row, describe_machine, print_evaluation
    from runtime.sizes import model_files

    require_pycocotools()
    models = model_files(args.model)
    dataset = read_dataset(args.annotations, args.images, args.limit)
    _check_outputs(args, models, [picture.path for picture in dataset.pictures])
    with (
        optional_output(args.json) as json_file,
        optional_output(args.save_detections) as detections_file,
        Detector(args.model, nms=args.nms, max_batch=args.max_batch or 1) as detector,
    ):
        if args.max_batch and args.max_batch < detector.batch:
            raise UserError(
                f"{args.model} has a fixed batch of {detector.batch}, got "
                f"--max-batch {args.max_batch}; leave it out"
            )
        evaluation = evaluate(detector, dataset, score_threshold=args.score_threshold, track=track)
        row = accuracy_row(
            evaluation,
            dataset,
            detector,
            paths=models,
            nms=args.nms,
            score_threshold=args.score_threshold,
        )
        if detections_file is not None:
            detections_file.write_text(json.dumps(evaluation.findings.results))
        if json_file is not None:
            with room_for(args.json):  # or the other file would be blamed
                write_result(json_file, describe_machine(detector.model), row)
    print_evaluation(row)
    for reason in evaluation.findings.unreadable:
        print(f"error: {reason}", file=sys.stderr)
    for warning in evaluation.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    return 2 if evaluation.findings.unreadable else 0


def _check_outputs(args: argparse.Namespace, models: list[Path], pictures: list[Path]) -> None:
    inputs = [*models, *map(manifest_path, models), args.annotations, *pictures]
    check_output("--json", args.json, inputs)
    check_output("--save-detections", args.save_detections, inputs)
    if args.json and args.save_detections and args.json.resolve() == args.save_detections.resolve():
        raise UserError(f"--json and --save-detections are both {args.json}; give two names")
