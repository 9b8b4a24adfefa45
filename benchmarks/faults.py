"""What commands leave behind that are killed or stopped at moments spread over their run.

``python -m benchmarks.faults --help``
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from benchmarks.cpu_rows import write_rows

_EPILOG = """\
example:
  nice python -m benchmarks.faults --count 50 --json benchmarks/results/security/faults.json

Exit code 1 if a result was broken, or a command did not end as it should."""
_PACKAGES = ("onnx", "onnxruntime", "opencv-python-headless", "torch", "tensorrt-rtx")
_SIGNALS = (signal.SIGKILL, signal.SIGINT, signal.SIGTERM)


def main() -> int:
    """Run the command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        "python -m benchmarks.faults",
        description="Kill and stop export, build, eval and detect at many moments.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--count",
        metavar="N",
        type=int,
        default=10,
        help="of each signal; a tenth for export, which takes long (default 10)",
    )
    parser.add_argument("--json", metavar="FILE", type=Path, help="where the counts go")
    args = parser.parse_args()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    counts = {"export": -(-args.count // 10)} | dict.fromkeys(
        ("build", "eval", "detect"), args.count
    )
    rows = [row for name, count in counts.items() for row in _rows(name, count)]
    if args.json:
        write_rows(args.json, "benchmarks.faults", _PACKAGES, rows)
    return 1 if any(row["problems"] for row in rows) else 0


def _rows(name: str, count: int) -> list[dict[str, Any]]:
    """What each signal came to in one job."""
    from tests.faults.attempts import attempt, measure, moments, run
    from tests.faults.jobs import make_job

    rows = []
    with tempfile.TemporaryDirectory() as folder:
        job = make_job(name, Path(folder))
        span = measure(job)
        for number in _SIGNALS:
            job.put_old_results()
            outcomes = []
            for moment in moments(count, span):
                outcomes.append(attempt(job, number, moment))
                if job.is_done():
                    job.put_old_results()
            code, told = run(job)  # after the last one
            problems = [problem for outcome in outcomes for problem in outcome.problems]
            problems += [] if code == 0 and job.is_done() else [f"the next run: {code} {told}"]
            codes = Counter(str(outcome.code) for outcome in outcomes)
            row = {"command": name, "signal": number.name, "attempts": count, "codes": codes}
            longest = max(outcome.seconds for outcome in outcomes)
            row |= {"longest_s": round(longest, 2), "problems": problems}
            rows.append(row | {"undisturbed_s": round(span.end, 1)})
            print(json.dumps(rows[-1]), flush=True)
    return rows


if __name__ == "__main__":
    sys.exit(main())
