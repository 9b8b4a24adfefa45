"""``python -m runtime detect``: annotated pictures and a JSON of all detections."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Iterable, Iterator
from itertools import chain, count, islice
from pathlib import Path
from typing import TYPE_CHECKING

from runtime.commands.options import score_threshold
from runtime.commands.progress import track
from runtime.errors import UserError

if TYPE_CHECKING:
    from runtime.images import Image


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``detect`` to the command line."""
    parser = commands.add_parser(
        "detect",
        help="detect objects in pictures",
        description="Detect objects in pictures. Writes OUT/<name>.png, the picture with its "
        "detections, and OUT/detections.json, all detections in COCO's layout.",
        epilog="Example: python -m runtime detect model.ref.onnx street.jpg photos/ -o out/",
        allow_abbrev=False,
    )
    parser.add_argument("model", metavar="MODEL", type=Path, help="model file, e.g. model.ref.onnx")
    parser.add_argument(
        "images",
        metavar="IMAGES",
        type=Path,
        nargs="+",
        help="pictures, or folders (the pictures in them, not in their sub-folders)",
    )
    parser.add_argument(
        "-o", "--output", metavar="OUT", type=Path, required=True, help="folder for the results"
    )
    parser.add_argument(
        "--score-threshold",
        metavar="SCORE",
        type=score_threshold,
        default=0.3,
        help="leave out detections with a lower score, 0 to 1 (default: %(default)s)",
    )
    parser.add_argument(
        "--nms",
        choices=("soft", "hard", "none"),
        default="soft",
        help="suppression of duplicates: soft lowers the score of a box that overlaps a better "
        "one, as in the published evaluation, hard drops it (default: %(default)s)",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Detect; a picture that cannot be read does not stop the others.

    Returns:
        Exit code: 0, or 2 if a picture could not be read.

    Raises:
        UserError: nothing can be done at all.
    """
    # The decoders' own messages would repeat ours; OpenCV reads this when first imported.
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
    from runtime.images import picture_files

    pictures = picture_files(args.images)
    targets = _targets(pictures, args.output)
    _check_writable(args.output)

    from runtime.coco_json import CocoResults
    from runtime.detector import Detector
    from runtime.draw import draw_detections
    from runtime.images import write_image

    with Detector(args.model, nms=args.nms) as detector:
        results = CocoResults(detector.classes)
        readable = _readable(track(pictures, "Detecting"))
        while batch := list(islice(readable, detector.batch)):
            found = detector([image for _, image in batch])
            for (path, image), detections in zip(batch, found, strict=True):
                confident = detections.above(args.score_threshold)
                write_image(targets[path], draw_detections(image, confident))
                height, width, _ = image.shape
                results.add(str(path), width, height, confident)
        results.write(args.output / "detections.json")

    print(
        f"{results.num_annotations} detections in {results.num_images} of {len(pictures)} "
        f"pictures: annotated pictures and detections.json are in {args.output}"
    )
    return 0 if results.num_images == len(pictures) else 2


def _targets(pictures: Iterable[Path], folder: Path) -> dict[Path, Path]:
    """The file for each picture's result: none for two of them, and none that is an input."""
    folder_entry = folder.resolve()
    # A name in a folder is what gets replaced: an input's own, and that of the file it links to.
    taken = {_key(path.parent.resolve() / path.name) for path in pictures}
    taken |= {_key(path.resolve()) for path in pictures}
    targets = {}
    for path in pictures:
        names = chain([path.stem], (f"{path.stem}-{n}" for n in count(2)))
        name = next(n for n in names if _key(folder_entry / f"{n}.png") not in taken)
        taken.add(_key(folder_entry / f"{name}.png"))
        targets[path] = folder / f"{name}.png"
    return targets


def _key(path: Path) -> str:
    """Equal for two paths that some file systems do not tell apart."""
    return str(path).casefold()


def _check_writable(folder: Path) -> None:
    """Make ``folder``; refuse now what would fail after minutes of inference."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise UserError(
            f"cannot write to folder {folder}: {error.strerror}; choose another with --output"
        ) from error


def _readable(paths: Iterable[Path]) -> Iterator[tuple[Path, Image]]:
    """Read pictures one by one; those that cannot be read are told on stderr and left out."""
    from runtime.images import read_image

    for path in paths:
        try:
            yield path, read_image(path)
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
