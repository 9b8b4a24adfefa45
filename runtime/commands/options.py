"""Options that several commands have."""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from runtime.errors import UserError
from runtime.files import atomic_output


def whole_number(option: str, smallest: int) -> Callable[[str], int]:
    """The type of an option that takes a whole number from ``smallest`` up."""

    def parse(text: str) -> int:
        if not text.isascii() or not text.isdecimal() or int(text) < smallest:
            raise UserError(f"{option} takes a whole number from {smallest} up, got {text}")
        return int(text)

    return parse


def add_model_or_folder(parser: argparse.ArgumentParser) -> None:
    """The argument MODEL of commands that serve pictures of any shape."""
    parser.add_argument(
        "model",
        metavar="MODEL",
        type=Path,
        help="model file, e.g. model.engine; or a folder of one model in several sizes, of which "
        "each picture gets the best",
    )


def add_detection_options(parser: argparse.ArgumentParser, *, default_score: float) -> None:
    """What decides which detections count, and how many pictures are detected in at a time."""
    parser.add_argument(
        "--score-threshold",
        metavar="SCORE",
        type=score_threshold,
        default=default_score,
        help="leave out detections with a lower score, 0 to 1 (default: %(default)s)",
    )
    parser.add_argument(
        "--nms",
        choices=("soft", "hard", "none"),
        default="soft",
        help="suppression of duplicates: soft lowers the score of a box that overlaps a better "
        "one, as in the published evaluation, hard drops it (default: %(default)s)",
    )
    parser.add_argument(
        "--max-batch",
        metavar="N",
        type=whole_number("--max-batch", 1),
        help="most pictures per inference (default: the model's batch, 1 if it takes any)",
    )


def score_threshold(text: str) -> float:
    """The type of ``--score-threshold``: a number from 0 to 1."""
    try:
        score = float(text)
    except ValueError:
        score = math.nan
    if not 0 <= score <= 1:
        raise UserError(f"--score-threshold must be a number from 0 to 1, got {text}")
    return score


def check_output(option: str, path: Path | None, inputs: Sequence[Path]) -> None:
    """Refuse a file to write that is no file, or one of those that are read.

    Raises:
        UserError: it is a folder, or an input.
    """
    if path is None:
        return
    if path.is_dir():
        raise UserError(f"cannot write {path}: it is a folder; give a file name")
    if path.resolve() in [file.resolve() for file in inputs]:
        raise UserError(f"{option} {path} would overwrite an input; give another name")


def write_result(file: Path, machine: dict[str, Any], row: dict[str, Any]) -> None:
    """Write the figures of one run as JSON, with the machine and the command that made them."""
    command = f"python -m runtime {shlex.join(sys.argv[1:])}"
    result = {"machine": machine, "command": command, "rows": [row]}
    file.write_text(json.dumps(result, indent=2) + "\n")


def optional_output(path: Path | None) -> contextlib.AbstractContextManager[Path | None]:
    """``atomic_output``, if there is a path.

    Opened before minutes of work, so that a folder that cannot be written is told at once.
    """
    return contextlib.nullcontext() if path is None else atomic_output(path)
