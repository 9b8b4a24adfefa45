"""``detect --ray`` with an engine in each actor. Needs a GPU."""

import os
import signal
from collections import Counter

import pytest

from tests.runtime.detect_folder import (
    detect,
    files,
    records,
    run_json,
    running,
    save_photos,
    wait_for_lines,
)
from tests.runtime.ray_cluster import processes_with

pytestmark = pytest.mark.gpu


@pytest.fixture(autouse=True)
def own_cluster(monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)


def test_equals_a_run_in_one_process(tmp_path, small_engine):
    photos = save_photos(tmp_path / "photos", 40, size=200)
    here, spread = tmp_path / "here", tmp_path / "spread"
    args = [small_engine, photos, "--score-threshold", 0.1, "--max-batch", 4]
    assert detect(*args, "-o", here) == 0
    assert detect(*args, "-o", spread, "--ray", "--actors", 1) == 0
    assert sorted(records(spread), key=str) == sorted(records(here), key=str)
    assert files(spread).keys() == files(here).keys()
    assert run_json(spread)["machine"]["actors"] == 1
    assert "tensorrt" in run_json(spread)["machine"]


def test_actor_that_is_killed_is_replaced(tmp_path, small_engine):
    photos = save_photos(tmp_path / "photos", 400, size=500)
    out = tmp_path / "out"
    mark = str(tmp_path)
    environment = os.environ | {"CODETR_TEST": mark}
    args = (small_engine, photos, "-o", out, "--ray", "--actors", 1)
    with running(*args, env=environment) as process:
        wait_for_lines(out, 32, process)
        [actor] = processes_with("ray::MapWorker") & processes_with(mark)
        os.kill(actor, signal.SIGKILL)
        output, told = process.communicate(timeout=300)
    assert process.returncode == 0, told
    assert "400 of 400 pictures" in output
    assert Counter(record["image"] for record in records(out)) == Counter(
        map(str, photos.iterdir())
    )
    assert len(files(out)) == 400
