"""Commands that are killed or stopped at any moment: no half file, and the next run succeeds.

A few moments of each; as many as ``FAULTS`` says if it is set.
"""

import json
import os
import signal
from collections import Counter

import pytest

from tests.faults.attempts import Moment, attempt, measure, moments, run
from tests.faults.jobs import NAMES, OLD, PICTURES, make_job

FAULTS = int(os.environ.get("FAULTS", "2"))
FAST = [name for name in NAMES if name != "export"]
STOPS = (signal.SIGINT, signal.SIGTERM)


@pytest.fixture(scope="module")
def started(tmp_path_factory):
    """The job of a name, and how long it takes."""
    made = {}

    def get(name):
        if name not in made:
            job = make_job(name, tmp_path_factory.mktemp(name))
            measure(job)  # slower than the others: files are not in the cache yet
            job.put_old_results()
            made[name] = job, measure(job)
        job, span = made[name]
        job.put_old_results()
        return job, span

    return get


def run_to_end(job):
    code, told = run(job)
    assert code == 0, told
    assert job.is_done(), list(job.folder.iterdir())


@pytest.mark.parametrize("name", FAST if FAULTS == 2 else NAMES)
def test_killed(started, name):
    job, span = started(name)
    codes = Counter()
    for moment in moments(FAULTS, span):
        outcome = attempt(job, signal.SIGKILL, moment)
        assert outcome.problems == [], moment
        codes[outcome.code] += 1
        if outcome.code == 0:  # it was faster this time
            job.put_old_results()
    assert codes[-9]
    run_to_end(job)


@pytest.mark.parametrize("name", FAST if FAULTS == 2 else NAMES)
def test_stopped(started, name):
    job, span = started(name)
    codes = Counter()
    for index, moment in enumerate(moments(FAULTS, span)):
        outcome = attempt(job, STOPS[index % 2], moment)
        assert outcome.problems == [], moment
        codes[outcome.code] += 1
        if outcome.code <= 0:
            job.put_old_results()
    assert codes[130] + codes[143]
    run_to_end(job)


def test_export_killed_while_it_writes_then_stopped_early(tmp_path):
    # The one that takes longest: with FAULTS it is killed and stopped at any moment, as the others.
    job = make_job("export", tmp_path)
    outcome = attempt(job, signal.SIGKILL, Moment(writing=True, seconds=0))
    assert outcome.code == -9
    assert outcome.problems == []
    assert job.hidden()
    outcome = attempt(job, signal.SIGTERM, Moment(writing=False, seconds=2))
    assert outcome.code == 143
    assert outcome.problems == []
    assert all((job.folder / name).read_bytes() == OLD for name in job.readers)


def test_killed_detect_goes_on_where_it_was(started):
    job, _ = started("detect")

    def count_done():
        written = (job.folder / "detections.jsonl").read_bytes()
        return 0 if written == OLD else written.count(b"\n")

    attempt(job, signal.SIGKILL, Moment(writing=True, seconds=0), lambda: count_done() > 3)
    done = count_done()
    assert 0 < done < PICTURES
    run_to_end(job)
    records = (job.folder / "detections.jsonl").read_text().splitlines()
    assert len({json.loads(line)["image"] for line in records}) == len(records) == PICTURES
    result = json.loads((job.folder / "run.json").read_bytes())["result"]
    assert result["pictures"] == PICTURES - done
