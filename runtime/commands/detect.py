"""``python -m runtime detect``: detections of pictures and videos, drawn and as JSON."""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from runtime.commands.options import add_detection_options, add_model_or_folder, whole_number
from runtime.commands.progress import track_results
from runtime.errors import UserError

if TYPE_CHECKING:
    from runtime.detect_run import DetectRun
    from runtime.sources import Sources, Video

_DESCRIPTION = """\
Detect objects in pictures, videos, cameras and network streams. Writes into the folder OUT:

  NAME.png, NAME.mp4   the picture or video with its detections drawn in
  detections.jsonl     a line of JSON for each picture or frame, as soon as it is done
  detections.json      the same in COCO's layout, at the end
  run.json             what was run, on what, how long it took, what could not be read
"""
_EPILOG = """\
Examples:
  python -m runtime detect model.engine street.jpg photos/ 'archive/**/*.jpg' -o out/
  python -m runtime detect model.engine drive.mp4 -o out/ --score-threshold 0.5
  python -m runtime detect model.engine rtsp://camera.local/stream -o out/     (ends with Ctrl-C)
  python -m runtime detect model.engine photos/ -o out/ --resume     (after an interruption)
  python -m runtime detect model.engine photos/ -o out/ --ray        (all GPUs of this machine)

What cannot be read is told, counted and left out; the exit code is then 2. After Ctrl-C, a crash or
a full disk --resume goes on where the run ended: no picture is lost or done twice, and a video that
was not finished is done again.

With --ray each GPU has an engine and takes pictures as fast as it can; what dies is replaced and
its pictures are done again. RAY_ADDRESS=auto, or HOST:6379, takes the Ray cluster that is there, of
any number of machines; otherwise one is started on this machine for as long as the run lasts.
Several machines need this package, and the current folder, MODEL, pictures and OUT at the same
paths: a shared file system. A .ref.onnx runs on CPUs, by default one on each machine. Videos are
not spread: detect in them afterwards, without --ray and with --resume.
"""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``detect`` to the command line."""
    parser = commands.add_parser(
        "detect",
        help="detect objects in pictures and videos",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add_model_or_folder(parser)
    parser.add_argument(
        "sources",
        metavar="SOURCE",
        nargs="+",
        help="picture, video, folder (what is in it, not in its sub-folders), pattern in quotes, "
        "camera (/dev/video0) or stream (rtsp://…)",
    )
    parser.add_argument(
        "-o", "--output", metavar="OUT", type=Path, required=True, help="folder for the results"
    )
    add_detection_options(parser, default_score=0.3)
    parser.add_argument(
        "--json-only", action="store_true", help="draw nothing: faster, and less disk"
    )
    parser.add_argument("--resume", action="store_true", help="go on with the run in OUT")
    parser.add_argument(
        "--ray", action="store_true", help="spread the pictures over GPUs and machines, with Ray"
    )
    parser.add_argument(
        "--actors",
        metavar="N",
        type=whole_number("--actors", 1),
        help="with --ray: models at work at the same time (default: one for each GPU)",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Detect; a picture or video that cannot be read does not stop the others.

    Returns:
        Exit code: 0; 2 if something could not be read; 130 after Ctrl-C.

    Raises:
        UserError: nothing can be done at all, or the disk is full.
    """
    # The decoders' own messages would repeat ours; OpenCV reads this when first imported.
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
    from runtime.detect_run import DetectRun, RunOptions
    from runtime.sources import find_sources

    sources = find_sources(args.sources)
    _check_ray(args, sources)
    _check_writable(args.output)
    options = RunOptions(
        nms=args.nms, score_threshold=args.score_threshold, draw=not args.json_only
    )
    with DetectRun(
        args.model,
        sources,
        args.output,
        options,
        max_batch=args.max_batch or 1,
        resume=args.resume,
        ray=args.ray,
        actors=args.actors,
    ) as detect_run:
        try:
            _show(detect_run.detect_pictures(), "Detecting", len(detect_run.pictures))
            for video in detect_run.videos:
                _detect_video(detect_run, video)
            detect_run.finish()
        except KeyboardInterrupt:
            print(f"stopped after {detect_run.summary()}; --resume goes on", file=sys.stderr)
            return 130
    print(f"{detect_run.summary()}: results are in {args.output}")
    return 2 if detect_run.tally.failed else 0


def _check_ray(args: argparse.Namespace, sources: Sources) -> None:
    """Refuse what --ray cannot do, and --actors without it."""
    if args.actors and not args.ray:
        raise UserError("--actors is for --ray; give both or neither")
    if args.ray and sources.videos:
        raise UserError(
            f"--ray is for pictures, got the video {sources.videos[0]}; name pictures only "
            "('photos/*.jpg'), then detect in videos without --ray and with --resume"
        )


def _detect_video(detect_run: DetectRun, video: Video) -> None:
    """One video; Ctrl-C and SIGTERM end a live one as if it had ended."""
    reader = detect_run.open(video)
    if reader is None:
        return
    with contextlib.ExitStack() as stack:
        if video.live:
            for number in (signal.SIGINT, signal.SIGTERM):
                before = signal.signal(number, lambda *_: reader.stop())
                stack.callback(signal.signal, number, before)
        _show(detect_run.detect_video(reader), str(video), reader.total)


def _show(records: Iterable[object], description: str, total: int | None) -> None:
    """Work through all records with a progress bar."""
    for _ in track_results(records, description, total):
        pass


def _check_writable(folder: Path) -> None:
    """Make ``folder``; refuse now what would fail after minutes of inference."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise UserError(
            f"cannot write to folder {folder}: {error.strerror}; choose another with --output"
        ) from error
