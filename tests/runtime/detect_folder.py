"""``detect`` on folders of pictures, and what it leaves behind."""

import contextlib
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from runtime.__main__ import main
from runtime.images import write_image

ROOT = Path(__file__).parents[2]


def save_photos(folder, count, size=20):
    rng = np.random.default_rng(0)
    for index in range(count):
        write_image(folder / f"{index:03}.png", rng.integers(0, 256, (size, size, 3), np.uint8))
    return folder


def detect(*args):
    return main(["detect", *map(str, args)])


def records(out):
    return [json.loads(line) for line in (out / "detections.jsonl").read_text().splitlines()]


def run_json(out):
    return json.loads((out / "run.json").read_text())


def coco(out):
    return json.loads((out / "detections.json").read_text(encoding="utf-8"))


def files(out):
    return {path.name: path.stat().st_mtime_ns for path in out.glob("[!.]*.png")}


@contextlib.contextmanager
def running(*args, **options):
    command = [sys.executable, "-m", "runtime", "detect", *map(str, args)]
    # Shells start background jobs with Ctrl-C ignored, and children inherit that.
    restore = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.default_int_handler)}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=ROOT, **pipes, **restore | options) as process:
        try:
            yield process
        finally:
            process.kill()


def wait_for_lines(out, count, process):
    for _ in range(600):
        with contextlib.suppress(FileNotFoundError):
            if (out / "detections.jsonl").read_bytes().count(b"\n") >= count:
                return
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.05)
    raise AssertionError("it wrote too little")
