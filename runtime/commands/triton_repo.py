"""``python -m runtime triton-repo``: a model repository for NVIDIA Triton."""

from __future__ import annotations

import argparse
from pathlib import Path

from runtime.commands.options import add_detection_options, whole_number


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``triton-repo`` to the command line."""
    parser = commands.add_parser(
        "triton-repo",
        help="write a model repository for NVIDIA Triton",
        description="Write a model repository for NVIDIA Triton: the model codetr, which takes "
        "pictures and answers with detections, and codetr_network, which it calls: an engine "
        "in Triton's TensorRT backend, or a reference graph without a GPU. The machine that "
        "serves it needs this package installed; no GPU is needed to write it.",
        epilog="Example: python -m runtime triton-repo model.engine -o models/",
        allow_abbrev=False,
    )
    parser.add_argument("model", metavar="MODEL", type=Path, help="model file, e.g. model.engine")
    parser.add_argument(
        "-o", "--output", metavar="REPO", type=Path, required=True, help="folder to make"
    )
    add_detection_options(parser, default_score=0.3)
    parser.add_argument(
        "--instances",
        metavar="N",
        type=whole_number("--instances", 1),
        default=2,
        help="processes that prepare pictures and suppress duplicates (default: %(default)s, so "
        "that one works while the other waits for the network)",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Write the repository and say what it needs.

    Returns:
        Exit code 0.

    Raises:
        UserError: the model cannot be served, or the folder not be made.
    """
    from runtime.triton.repository import read_network, write_repository

    network = read_network(args.model)
    settings = write_repository(
        network,
        args.output,
        max_batch=args.max_batch,
        nms=args.nms,
        score_threshold=args.score_threshold,
        instances=args.instances,
    )
    needs = "Triton's Python backend"
    if network.recipe:
        needs = f"a Triton with TensorRT {network.recipe.version}"
    print(
        f"{args.output}: models codetr and codetr_network, up to {settings.max_batch} pictures "
        f"per inference; needs {needs}"
    )
    return 0
