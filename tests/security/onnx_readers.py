"""Reads damaged ONNX files, in a process of its own: a native parser may end it.

``python -m tests.security.onnx_readers READER FILE KIND:SEED…`` prints a line for each attempt:
what is tried, and what came of it.
"""

from __future__ import annotations

import resource
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from runtime.errors import UserError
from tests.security.damage import damaged

_MEMORY = 8 * 2**30


def run(path: Path) -> None:
    """Detect with ONNX Runtime, and all that ``detect`` does with the result."""
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
    from trt_build.network import batch_profile, describe_io, parse_onnx
    from trt_build.onnx_file import read_onnx

    read_onnx(path)
    logger = make_logger(trt)
    network, _parser = parse_onnx(trt, trt.Builder(logger), logger, path)
    describe_io(network, batch_profile(network, None))


def verify(path: Path) -> None:
    """As ``verify`` reads both sides before it runs them."""
    from trt_build.pair import read_candidate, read_reference

    read_reference(path, read_candidate(path, None, with_stages=False))


READERS: dict[str, Callable[[Path], None]] = {
    "onnxruntime": run,
    "tensorrt-rtx": parse,
    "verify": verify,
}


def outcome(read: Callable[[Path], None], path: Path) -> str:
    """``read``, ``refused`` by an error of ours, or which other exception."""
    try:
        read(path)
    except UserError as error:
        return "refused" if str(error).strip() else "UserError that says nothing"
    except Exception as error:
        return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    return "read"


def main(reader: str, file: str, *attempts: str) -> None:
    """Try one after the other."""
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    data = Path(file).read_bytes()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "damaged.ref.onnx")
        for attempt in attempts:
            kind, _, seed = attempt.partition(":")
            path.write_bytes(damaged(data, kind, int(seed)))
            print(attempt, end=" ", flush=True)
            print(outcome(READERS[reader], path), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
