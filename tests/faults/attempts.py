"""A command that gets a signal at some moment of its run, and what came of it."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.faults.jobs import Job

ROOT = Path(__file__).parents[2]
MOST_SECONDS = 5.0
"""From the signal to the end of the process."""
CODES = {signal.SIGKILL: -9, signal.SIGINT: 130, signal.SIGTERM: 143}


@dataclass(frozen=True)
class Span:
    """Seconds since the start of a run that nothing disturbed."""

    ready: float
    """Signals are handled from then on."""
    writing: float
    """The first temporary file is there."""
    end: float


@dataclass(frozen=True)
class Moment:
    """When the signal is sent."""

    writing: bool
    """Counted from the first temporary file on; otherwise from where signals are handled."""
    seconds: float


@dataclass(frozen=True)
class Outcome:
    """What came of one attempt."""

    code: int
    seconds: float
    """From the signal to the end."""
    problems: list[str]
    """None if all went well."""


def moments(count: int, span: Span) -> Iterator[Moment]:
    """Spread over a run; every other one over that part in which files are written."""
    for index in range(count):
        writing = index % 2 == 1
        begin = span.writing if writing else span.ready
        yield Moment(writing, (index + 0.5) / count * (span.end - begin))


def measure(job: Job) -> Span:
    """Run a job to its end."""
    start = time.monotonic()
    with _running(job) as process:
        _wait(process, lambda: _handles_signals(process))
        ready = time.monotonic() - start
        _wait(process, lambda: _is_writing(job))
        writing = time.monotonic() - start
        _, told = process.communicate(timeout=300)
    assert process.returncode == 0, told
    return Span(ready, writing, time.monotonic() - start)


def attempt(
    job: Job, number: signal.Signals, moment: Moment, once: Callable[[], bool] = lambda: True
) -> Outcome:
    """Run a job until it gets a signal at a moment; see what is in its folder then.

    Args:
        job: what to run.
        number: the signal.
        moment: when it is sent.
        once: what has to be true before the moment's seconds are counted.
    """
    left = set(job.hidden())  # by one that was killed; gone as soon as the next one writes
    with _running(job) as process:
        _wait(process, lambda: _handles_signals(process))
        if moment.writing:
            _wait(process, lambda: _is_writing(job))
        _wait(process, once)
        time.sleep(moment.seconds)
        process.send_signal(number)
        sent = time.monotonic()
        _, told = process.communicate(timeout=300)
    seconds = time.monotonic() - sent
    problems = [f"{name} is not whole" for name in job.broken()]
    if number != signal.SIGKILL:
        problems += _untidy(job, process.returncode, number, seconds, told)
        problems += [f"left {name}" for name in set(job.hidden()) - left]
    return Outcome(process.returncode, seconds, problems)


def _untidy(job: Job, code: int, number: int, seconds: float, told: str) -> Iterator[str]:
    """What a command did that was asked to end."""
    # 0, or ended by the signal itself: it had done all already.
    done = code in (0, -number) and job.is_done()
    if code != CODES[signal.Signals(number)] and not done:
        yield f"exit code {code}: {told}"
    if code > 0 and not any(words in told for words in ("cancelled", "stopped after")):
        yield f"does not say that it was stopped: {told}"
    if "Traceback" in told or "Exception ignored" in told:
        yield f"a traceback: {told}"
    if job.name != "export" and told.count("\n") > 1:  # which tells its progress
        yield f"more than one line: {told}"
    if seconds > MOST_SECONDS:
        yield f"took {seconds:.1f} s to end"


def run(job: Job, **options: Any) -> tuple[int, str]:
    """Run a job to its end; returns the exit code, and what went to stderr."""
    with _running(job, **options) as process:
        _, told = process.communicate(timeout=300)
    return process.returncode, told


def _running(job: Job, **options: Any) -> subprocess.Popen[str]:
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return subprocess.Popen(
        job.command(),
        cwd=job.folder,
        env=os.environ | {"PYTHONPATH": path},
        stderr=subprocess.PIPE,
        text=True,
        **{"stdout": subprocess.DEVNULL} | options,
    )


def _wait(process: subprocess.Popen[str], until: Callable[[], bool]) -> None:
    while process.poll() is None and not until():
        time.sleep(0.001)


def _is_writing(job: Job) -> bool:
    return any(job.folder.glob(job.writing))


def _handles_signals(process: subprocess.Popen[str]) -> bool:
    """Whether Python has come to our code, which catches SIGTERM."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    caught = int(status.partition("SigCgt:")[2].split()[0], 16)
    return bool(caught >> (signal.SIGTERM - 1) & 1)
