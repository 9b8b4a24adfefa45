"""Reads damaged files, in a process of its own: a native parser may end it.

``python -m tests.security.readers READER FILE KIND:SEED…`` prints a line for each attempt: what is
tried, and what came of it. The files beside FILE stay whole.
"""

from __future__ import annotations

import resource
import shutil
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

from codetr.errors import UserError as TorchUserError
from runtime.errors import UserError
from tests.security.damage import damaged

_MEMORY = 8 * 2**30


def detect(path: Path) -> None:
    """Detect with ONNX Runtime, and all that ``detect`` does with the result."""
    import numpy as np

    from runtime import Detector

    picture = np.full((40, 60, 3), 90, np.uint8)
    with Detector(path) as detector:
        detections = detector(picture)
    detections.draw(picture)
    detections.records()


def parse(path: Path) -> None:
    """As ``trt_build`` reads a file before it builds."""
    import tensorrt_rtx as trt

    from runtime.tensorrt_log import make_logger
    from trt_build.network import describe_io, input_profile, parse_onnx
    from trt_build.onnx_file import read_onnx

    read_onnx(path)
    logger = make_logger(trt)
    network, _parser = parse_onnx(trt, trt.Builder(logger), logger, path)
    describe_io(network, input_profile(network, None, None))


def verify(path: Path) -> None:
    """As ``verify`` reads both sides before it runs them."""
    from trt_build.pair import read_candidate, read_reference

    read_reference(path, read_candidate(path, None, with_stages=False))


def inspect(path: Path) -> None:
    """An engine with its manifest; either of them is given."""
    from trt_build.inspection import inspect_engine
    from trt_build.report import print_tables

    engine = path.with_suffix("") if path.suffix == ".json" else path
    print_tables(engine, inspect_engine(engine))


def picture(path: Path) -> None:
    """A picture file."""
    from runtime.images import read_image

    read_image(path)


def checkpoint(path: Path) -> None:
    """A weights file."""
    from codetr.checkpoint import read_checkpoint

    read_checkpoint(path)


READERS: dict[str, Callable[[Path], None]] = {
    reader.__name__: reader for reader in (detect, parse, verify, inspect, picture, checkpoint)
}


def outcome(read: Callable[[Path], None], path: Path) -> str:
    """``read``, ``refused`` by an error of ours, or which other exception."""
    try:
        read(path)
    except (UserError, TorchUserError) as error:
        return "refused" if str(error).strip() else "UserError that says nothing"
    except Exception as error:
        return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    return "read"


def main(reader: str, file: str, *attempts: str) -> None:
    """Try one after the other."""
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    warnings.simplefilter("ignore")
    data = Path(file).read_bytes()
    with tempfile.TemporaryDirectory() as temporary:
        folder = shutil.copytree(Path(file).parent, Path(temporary, "files"))
        path = folder / Path(file).name
        for attempt in attempts:
            kind, _, seed = attempt.partition(":")
            path.write_bytes(damaged(data, kind, int(seed)))
            print(attempt, "begins", flush=True)
            print(attempt, outcome(READERS[reader], path), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
