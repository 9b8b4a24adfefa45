"""What damaged files come to: many of every kind, each read in a process of its own.

``python -m benchmarks.damage --help``
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from benchmarks.cpu_rows import write_rows

_EPILOG = """\
example:
  nice python -m benchmarks.damage --count 1000 --json benchmarks/results/security/damage.json

Exit code 1 if anything came to something else than being read or refused."""
_PACKAGES = (
    "onnx",
    "onnxruntime",
    "opencv-python-headless",
    "safetensors",
    "torch",
    "tensorrt-rtx",
)


def main() -> int:
    """Run the command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        "python -m benchmarks.damage",
        description="Read damaged engines, manifests, ONNX files, checkpoints and pictures.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--count", metavar="N", type=int, default=100, help="of each kind of damage (default 100)"
    )
    parser.add_argument("--json", metavar="FILE", type=Path, help="where the counts go")
    args = parser.parse_args()
    from tests.security.samples import NAMES

    rows = [row for name in NAMES for row in _rows(name, args.count)]
    if args.json:
        write_rows(args.json, "benchmarks.damage", _PACKAGES, rows)
    return 1 if any(row["wrong"] for row in rows) else 0


def _rows(name: str, count: int) -> list[dict[str, Any]]:
    """What each kind of damage to one kind of file came to."""
    from tests.security.attempts import outcomes_of
    from tests.security.damage import KINDS, attempts
    from tests.security.samples import make_sample

    rows = []
    with tempfile.TemporaryDirectory() as folder:
        reader, file = make_sample(name, Path(folder, "whole"))
        for kind in KINDS:
            start = time.perf_counter()
            found = outcomes_of(reader, file, attempts(count, (kind,)))
            counts = Counter(found.values())
            wrong = {a: what for a, what in found.items() if what not in ("read", "refused")}
            row = {"file": name, "bytes": file.stat().st_size, "damage": kind, "attempts": count}
            row |= {"read": counts["read"], "refused": counts["refused"], "wrong": wrong}
            rows.append(row | {"seconds": round(time.perf_counter() - start, 1)})
            print(", ".join(f"{key} {value}" for key, value in rows[-1].items()))
    return rows


if __name__ == "__main__":
    sys.exit(main())
