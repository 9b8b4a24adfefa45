"""A full disk, and a folder that cannot be written: one line, exit code 2, the older results.

A full disk for the export is in tests/trt_build/test_export_first.py: it takes long.
"""

import contextlib
import os
import resource
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests.faults.attempts import ROOT, run
from tests.faults.jobs import NAMES, OLD, make_job

FAST = [name for name in NAMES if name != "export"]
LARGE = {"build": "m.engine:", "eval": "found.json:", "detect": "go on with --resume"}
"""What is said of the file that finds no room."""


@pytest.fixture(scope="module", params=FAST)
def made(request, tmp_path_factory):
    return make_job(request.param, tmp_path_factory.mktemp(request.param))


@pytest.fixture
def job(made):
    made.put_old_results()
    return made


@contextlib.contextmanager
def mounted(folder, options):
    command = ["mount", "-t", "tmpfs", "-o", options, "none", folder]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("no file system can be mounted here")
    try:
        yield
    finally:
        subprocess.run(["umount", folder], check=True)


def no_room():
    """No file may grow beyond some hundred bytes: like a full disk, and nothing to be mounted."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (600, 600))


def assert_refused(job, found, *words):
    code, told = found
    assert code == 2, told
    assert told.count("\n") == 1, told
    for word in (": error: cannot write", *words):
        assert word in told
    assert job.hidden() == []


def test_no_file_may_grow(job):
    assert_refused(job, run(job, preexec_fn=no_room), "File too large; make room", LARGE[job.name])
    assert job.broken() == []
    if job.name != "detect":  # which has begun a new journal
        assert {(job.folder / name).read_bytes() for name in job.readers} == {OLD}


def test_the_file_that_finds_no_room_is_the_one_that_is_named(tmp_path):
    job = make_job("eval", tmp_path)
    # Nothing is detected, so that one fits.
    job = replace(job, arguments=(*job.arguments, "--score-threshold", "1"))
    assert_refused(job, run(job, preexec_fn=no_room), "cannot write ap.json: File too large")


def test_full_disk(job, tmp_path):
    page = os.sysconf("SC_PAGESIZE")
    with mounted(tmp_path, f"size={4 * page}"):
        (tmp_path / "filler").write_bytes(bytes(3 * page))
        small = replace(job, folder=tmp_path)
        assert_refused(small, run(small), "No space left on device; make room", LARGE[job.name])


def test_read_only_disk(job, tmp_path):
    with mounted(tmp_path, "ro"):
        read_only = replace(job, folder=tmp_path)
        assert_refused(read_only, run(read_only))


def test_results_that_are_folders(job):
    for name in job.readers:
        (job.folder / name).unlink()
        (job.folder / name).mkdir()
    try:
        assert_refused(job, run(job))
    finally:
        for name in job.readers:
            (job.folder / name).rmdir()


def test_full_stdout(job):
    with Path("/dev/full").open("w") as full:
        code, told = run(job, stdout=full)
    assert code == 2, told
    assert told.endswith(": error: cannot write what it prints: No space left on device\n")
    assert told.count("\n") == 1, told
    assert job.is_done()


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("lines", [1, 100_000])
def test_stdout_that_nobody_reads(lines, unbuffered):
    # So few that they wait for the end, and so many that they do not.
    code = f"""if True:
        from runtime.stopping import run_stoppable
        def main():
            for _ in range({lines}):
                print("line")
            return 0
        run_stoppable("name", main)
    """
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=os.environ | {"PYTHONUNBUFFERED": unbuffered},
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(writing)
    assert done.returncode == 2
    assert done.stderr == "name: error: cannot write what it prints: Broken pipe\n"
