"""``python -m codetr.training.dataset``: pictures of digits as files, to judge a detector with."""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import secrets
import shutil
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from codetr.errors import UserError
from codetr.training.requirements import require

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from codetr.training.digits import Split

NEEDED = ("torch", "sklearn", "cv2")
SIDES = (256, 640)
"""Shortest and longest side of a picture, in pixels."""
BATCH = 10
"""Pictures made at a time. A set begins like any smaller one, as only whole batches are made."""
ANNOTATIONS = "annotations.json"
EXAMPLE = f"""\
example:
  python -m codetr.training.dataset --split test --count 500 --seed 1 -o digits_test
  python -m codetr.training.dataset --split test --seed 1 --sheet sheet.png   # to look at

The folder gets the pictures and {ANNOTATIONS} in COCO's format.
"""


@dataclass(frozen=True)
class Picture:
    """One picture and what is in it."""

    image: npt.NDArray[np.uint8]
    """RGB (h, w, 3)."""
    labels: list[int]
    boxes: list[list[float]]
    """x1 y1 x2 y2 in pixels."""


def pictures(split: Split, count: int, seed: int) -> Iterator[Picture]:
    """Yield ``count`` pictures of a split, of various sizes."""
    import torch

    from codetr.training.pictures import make_batch

    chance = random.Random(seed)
    for start in range(0, count, BATCH):
        sizes = [(chance.randint(*SIDES), chance.randint(*SIDES)) for _ in range(BATCH)]
        padded = (max(h for h, _ in sizes), max(w for _, w in sizes))
        batch = make_batch(
            split,
            seed=chance.getrandbits(64),
            sizes=sizes,
            padded=padded,
            device=torch.device("cpu"),
        )
        for i, (h, w) in enumerate(sizes[: count - start]):
            image = batch.images[i, :, :h, :w].permute(1, 2, 0).byte().numpy()
            yield Picture(image, batch.labels[i].tolist(), batch.boxes[i].tolist())


def write_dataset(folder: Path, split: Split, count: int, seed: int) -> dict[str, Any]:
    """Write pictures and annotations; the folder appears whole or not at all.

    Returns:
        What the annotation file holds.

    Raises:
        UserError: the folder is there already, or cannot be written.
    """
    from codetr.training.digits import CLASSES

    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    with _whole_folder(folder) as temporary:
        for number, picture in enumerate(_track(pictures(split, count, seed), count), 1):
            name = f"{number:06}.png"
            write_png(temporary / name, picture.image)
            height, width = picture.image.shape[:2]
            images.append({"id": number, "file_name": name, "width": width, "height": height})
            annotations += _annotations(picture, number, first_id=len(annotations) + 1)
        content = {
            "info": {"description": f"digits: {split} split, {count} pictures, seed {seed}"},
            "images": images,
            "annotations": annotations,
            "categories": [{"id": i, "name": name} for i, name in enumerate(CLASSES, 1)],
        }
        (temporary / ANNOTATIONS).write_text(json.dumps(content))
    return content


def write_png(path: Path, image: npt.NDArray[np.uint8]) -> None:
    """Write an RGB picture without loss."""
    import cv2

    _, encoded = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    path.write_bytes(encoded.tobytes())


def _annotations(picture: Picture, image_id: int, first_id: int) -> Iterator[dict[str, Any]]:
    found = zip(picture.labels, picture.boxes, strict=True)
    for number, (label, (x1, y1, x2, y2)) in enumerate(found, first_id):
        yield {
            "id": number,
            "image_id": image_id,
            "category_id": label + 1,
            "bbox": [x1, y1, x2 - x1, y2 - y1],
            "area": (x2 - x1) * (y2 - y1),
            "iscrowd": 0,
        }


@contextlib.contextmanager
def _whole_folder(folder: Path) -> Iterator[Path]:
    """Yield a folder beside ``folder`` that becomes it if the block succeeds."""
    if folder.exists():
        raise UserError(f"{folder} is there already; remove it or choose another folder")
    temporary = folder.with_name(f".{secrets.token_hex(8)}")
    with _writing(folder):
        try:
            temporary.mkdir(parents=True)
            yield temporary
            temporary.rename(folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


@contextlib.contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(
            f"cannot write {path}: {error.strerror}; choose a place that can be written"
        ) from error


def _track(items: Iterable[Picture], count: int) -> Iterable[Picture]:
    """Iterate with a bar on stderr, silent where that is not a terminal."""
    if not sys.stderr.isatty():
        return items
    from rich.console import Console
    from rich.progress import track

    return track(items, "making pictures", count, console=Console(stderr=True), transient=True)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result = argparse.ArgumentParser(
        prog="python -m codetr.training.dataset",
        description="Write pictures of handwritten digits with COCO annotations.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = result.add_argument
    add("--split", choices=("train", "test"), default="test", help="whose digits (test)")
    add("--count", type=int, default=500, help="pictures (500)")
    add("--seed", type=int, default=1, help="of everything random (1)")
    add("-o", "--output", type=Path, metavar="FOLDER", help="new folder for pictures")
    add("--sheet", type=Path, metavar="FILE.png", help="the first pictures with their boxes drawn")
    return result


def main(argv: list[str] | None = None) -> int:
    """Run the command; 0 on success, 2 on a user's mistake, 130 if it was cancelled."""
    command_line = parser()
    args = command_line.parse_args(argv)
    try:
        _check(args)
        if args.output:
            content = write_dataset(args.output, args.split, args.count, args.seed)
            print(
                f"wrote {args.output}: {len(content['images'])} pictures, "
                f"{len(content['annotations'])} digits",
                file=sys.stderr,
            )
        if args.sheet:
            from codetr.training.sheet import PICTURES, contact_sheet

            shown = list(pictures(args.split, min(args.count, PICTURES), args.seed))
            with _writing(args.sheet):
                write_png(args.sheet, contact_sheet(shown))
            print(f"wrote {args.sheet}", file=sys.stderr)
    except UserError as error:
        print(f"{command_line.prog}: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"{command_line.prog}: cancelled, nothing was written", file=sys.stderr)
        return 130
    return 0


def _check(args: argparse.Namespace) -> None:
    if not args.output and not args.sheet:
        raise UserError("nothing to write; give -o FOLDER, --sheet FILE.png or both")
    if args.sheet and args.sheet.suffix != ".png":
        raise UserError(f"the sheet is a PNG file, got {args.sheet}; give --sheet FILE.png")
    if args.count < 1:
        raise UserError(f"--count is {args.count}; give 1 or more")
    require(NEEDED)


if __name__ == "__main__":
    sys.exit(main())
