"""Two builds of one engine: one builds, the other waits and takes what is there by then."""

import signal
import subprocess
import sys
import time

import pytest

from runtime.errors import UserError
from tests.trt_build.tiny_models import save_conv
from trt_build.lock import only_build_of

pytest.importorskip("tensorrt_rtx")

HOLD = """
import sys, time
from pathlib import Path
from trt_build.lock import only_build_of
with only_build_of(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(float(sys.argv[2]))
"""


def start(*arguments):
    return subprocess.Popen(
        [sys.executable, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_the_second_build_waits_and_reuses(tmp_path):
    onnx, engine = save_conv(tmp_path / "m.ref.onnx"), tmp_path / "out" / "m.engine"
    command = ("-m", "trt_build", onnx, "-o", engine, "--backend", "tensorrt-rtx")
    processes = [start(*command) for _ in range(2)]
    outputs = [process.communicate(timeout=300) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    said = sorted("is up to date" in printed for printed, _ in outputs)
    assert said == [False, True], outputs
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == [
        "m.engine",
        "m.engine.json",
        "m.ref.onnx",
    ]


def test_a_build_that_is_killed_leaves_no_lock(tmp_path):
    engine = tmp_path / "m.engine"
    with start("-c", HOLD, engine, 600) as holder:
        assert holder.stdout.readline() == "held\n"
        holder.send_signal(signal.SIGKILL)
    begun = time.monotonic()
    with only_build_of(engine):
        assert time.monotonic() - begun < 10
    assert list(tmp_path.iterdir()) == []


def test_who_waits_is_told(tmp_path, capfd):
    engine = tmp_path / "m.engine"
    with start("-c", HOLD, engine, 1) as holder:
        assert holder.stdout.readline() == "held\n"
        begun = time.monotonic()
        with only_build_of(engine):
            assert time.monotonic() - begun > 0.5
    assert f"{engine} is being built by another process" in capfd.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_link_in_the_place_of_the_lock_is_not_followed(tmp_path):
    target = tmp_path / "somebody's"
    target.write_text("kept")
    (tmp_path / ".m.engine.lock").symlink_to(target)
    with (
        pytest.raises(UserError, match=r"cannot write .*lock"),
        only_build_of(tmp_path / "m.engine"),
    ):
        pass
    assert target.read_text() == "kept"
