"""``python -m runtime bench``: how long a model file takes on this machine."""

from __future__ import annotations

import argparse
from pathlib import Path

from runtime.commands.options import check_output, optional_output, whole_number, write_result
from runtime.commands.progress import track
from runtime.errors import UserError
from runtime.files import room_for
from runtime.manifest import manifest_path


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``bench`` to the command line."""
    parser = commands.add_parser(
        "bench",
        help="measure latency, throughput and memory",
        description="Measure how long a model takes: the kernels alone on the GPU, with and "
        "without CUDA graph in turns, and a decoded picture from end to end, part by part.",
        epilog="Example: python -m runtime bench model.engine --image street.jpg --json bench.json",
        allow_abbrev=False,
    )
    parser.add_argument("model", metavar="MODEL", type=Path, help="model file, e.g. model.engine")
    parser.add_argument(
        "--iterations",
        metavar="N",
        type=whole_number("--iterations", 1),
        default=200,
        help="runs that count, of each series (default: %(default)s)",
    )
    parser.add_argument(
        "--warm-up",
        metavar="N",
        type=whole_number("--warm-up", 0),
        default=20,
        help="runs before them that do not count (default: %(default)s)",
    )
    parser.add_argument(
        "--image",
        metavar="FILE",
        type=Path,
        help="picture to detect in (default: noise of the model's size, of the largest it takes)",
    )
    parser.add_argument(
        "--batch",
        metavar="N",
        type=whole_number("--batch", 1),
        help="pictures per inference (default: the model's batch, 1 if it takes any)",
    )
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the figures there too")
    parser.add_argument(
        "--profile",
        metavar="FILE.svg",
        type=Path,
        help="time every layer of an engine too, print where the time goes and draw it there",
    )
    parser.add_argument(
        "--no-cuda-graph", action="store_true", help="launch every kernel of an engine by itself"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Measure, print a table, write the JSON.

    Returns:
        Exit code 0.

    Raises:
        UserError: a file or an option cannot be used.
    """
    if args.model.is_dir():
        raise UserError(f"{args.model} is a folder; bench takes one model file")
    inputs = [args.model, manifest_path(args.model), *([args.image] if args.image else [])]
    check_output("--json", args.json, inputs)
    check_output("--profile", args.profile, [*inputs, *([args.json] if args.json else [])])

    from runtime.bench_report import print_report, title_of
    from runtime.benchmark import measure, noise_image
    from runtime.detector import Detector
    from runtime.images import read_image
    from runtime.profile import profile_layers
    from runtime.profile_report import plot, print_profile

    image = read_image(args.image) if args.image else None
    with (
        optional_output(args.json) as json_file,
        optional_output(args.profile) as plot_file,
        Detector(args.model, max_batch=args.batch or 1) as detector,
    ):
        if args.batch and args.batch != detector.batch:
            raise UserError(
                f"{args.model} has a fixed batch of {detector.batch}, got --batch {args.batch}; "
                "leave it out"
            )
        if image is None:
            image = noise_image(detector.model.spec.height, detector.model.spec.width)
        images = [image] * detector.batch
        profile = profile_layers(detector, images, track) if plot_file else None
        measurement = measure(
            detector,
            images,
            iterations=args.iterations,
            warm_up=args.warm_up,
            cuda_graph=not args.no_cuda_graph,
            track=track,
        )
        if profile and plot_file:
            measurement.row["profile"] = profile.as_json()
            plot_file.write_text(plot(profile, title_of(measurement)))
        if json_file is not None:
            with room_for(args.json):  # or the other file would be blamed
                write_result(json_file, measurement.machine, measurement.row)
    print_report(measurement)
    if profile:
        print_profile(profile)
    return 0
