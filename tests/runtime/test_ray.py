"""``detect --ray``: pictures spread over actors, each done once whatever dies."""

import json
import os
import secrets
import signal
import time
from collections import Counter

import pytest

from runtime.files import NotWritableError
from runtime.ray_worker import BlockDetector, Job, raise_problem
from tests.processes import run_python
from tests.runtime.detect_folder import (
    ROOT,
    coco,
    detect,
    files,
    records,
    run_json,
    running,
    save_photos,
    wait_for_lines,
)
from tests.runtime.ray_cluster import processes_with, ray_cluster
from tests.runtime.tiny_model import save_tiny_model
from tests.runtime.videos import save_video


@pytest.fixture(scope="module", autouse=True)
def cluster():
    # Before Ray is first imported, which is when it reads these.
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "token")
        patch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))
        with ray_cluster() as address:
            patch.setenv("RAY_ADDRESS", address)
            yield


@pytest.fixture
def photos(tmp_path):
    return save_photos(tmp_path / "photos", 11)


def by_picture(found):
    return sorted(found, key=lambda record: record["image"])


def pictures_of(out):
    return Counter(record["image"] for record in records(out))


@pytest.mark.usefixtures("model")
def test_equals_a_run_in_one_process(tmp_path, photos, monkeypatch, capsys):
    (photos / "bad.png").write_text("no picture")
    monkeypatch.chdir(tmp_path)  # the actors started elsewhere
    args = ["model.ref.onnx", "photos", "none.png", "--score-threshold", 0, "--max-batch", 2]
    here, spread = tmp_path / "here", tmp_path / "spread"
    assert detect(*args, "-o", "here") == 2
    first = capsys.readouterr()
    assert detect(*args, "-o", "spread", "--ray", "--actors", 2) == 2
    second = capsys.readouterr()
    assert by_picture(records(spread)) == by_picture(records(here))
    assert len(records(spread)) == 13
    assert files(spread).keys() == files(here).keys()
    assert all((spread / n).read_bytes() == (here / n).read_bytes() for n in files(here))
    assert len(coco(spread)["images"]) == 11
    assert coco(spread)["categories"] == coco(here)["categories"]
    assert run_json(spread)["settings"] == run_json(here)["settings"]
    assert sorted(run_json(spread)["result"]["failed"]) == sorted(
        run_json(here)["result"]["failed"]
    )
    assert run_json(spread)["machine"] | {"nodes": 1, "actors": 2} == run_json(spread)["machine"]
    assert "onnxruntime" in run_json(spread)["machine"]
    assert second.out == first.out.replace("here", "spread")
    assert sorted(second.err.splitlines()) == sorted(first.err.splitlines())


def test_more_actors_than_pictures_and_a_run_that_is_done(tmp_path, model, photos):
    out = tmp_path / "out"
    args = (photos / "000.png", "-o", out, "--json-only", "--ray", "--actors", 2)
    assert detect(model, *args) == 0
    first = records(out)
    assert len(first) == 1
    assert not files(out)
    assert detect(model, *args, "--resume") == 0
    assert records(out) == first
    assert len(coco(out)["categories"]) == 3


def test_model_that_actors_cannot_load_is_told_in_a_line(tmp_path, photos, capsys):
    model = save_tiny_model(tmp_path / "model.ref.onnx", entry="")
    assert detect(model, photos, "-o", tmp_path / "out", "--ray") == 2
    told = capsys.readouterr().err
    assert "is not a Co-DETR model" in told
    assert told.count("\n") == 1


def test_too_few_gpus_or_cpus(tmp_path, model, photos, capsys):
    args = (photos, "-o", tmp_path / "out", "--ray")
    assert detect(model, *args, "--actors", 3) == 2
    assert "has 2 CPUs" in capsys.readouterr().err
    engine = model.rename(tmp_path / "model.engine")
    assert detect(engine, *args) == 2
    assert "has 0 GPUs" in capsys.readouterr().err
    assert not (tmp_path / "out" / "run.json").exists()


def test_cluster_that_is_not_there(tmp_path, model, photos, monkeypatch, capsys):
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    assert detect(model, photos, "-o", tmp_path / "out", "--ray") == 2
    told = capsys.readouterr().err
    assert "cannot use the Ray cluster 127.0.0.1:1: " in told
    assert told.count("\n") == 1


def test_videos_and_actors_without_ray_are_refused(tmp_path, model, photos, capsys):
    clip = save_video(tmp_path / "clip.mp4", 2)
    out = tmp_path / "out"
    assert detect(model, photos, clip, "-o", out, "--ray") == 2
    assert f"got the video {clip}" in capsys.readouterr().err
    assert detect(model, photos, "-o", out, "--actors", 2) == 2
    assert "--actors is for --ray" in capsys.readouterr().err
    assert not out.exists()


def test_missing_ray_is_told(tmp_path, model, photos):
    code = """
        import sys
        sys.modules["ray"] = None
        from runtime.__main__ import main
        sys.exit(main(["detect", *sys.argv[1:]]))
    """
    done = run_python(code, model, photos, "-o", tmp_path / "out", "--ray", cwd=ROOT)
    assert done.returncode == 2
    assert "pip install 'ray[data]'" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.fixture
def many(tmp_path):
    return save_photos(tmp_path / "photos", 80, size=500)


@pytest.fixture
def mark():
    """In the environment of a driver and all the processes it starts."""
    return secrets.token_hex(16)


def test_actor_that_is_killed_is_replaced(tmp_path, model, many):
    out = tmp_path / "out"
    with running(model, many, "-o", out, "--ray", "--actors", 2) as process:
        wait_for_lines(out, 8, process)
        actors = processes_with("ray::MapWorker") & processes_with(os.environ["RAY_AUTH_TOKEN"])
        assert len(actors) == 2
        os.kill(min(actors), signal.SIGKILL)
        output, told = process.communicate(timeout=120)
    assert process.returncode == 0, told
    assert "80 of 80 pictures" in output
    assert pictures_of(out) == Counter(map(str, many.iterdir()))
    assert len(files(out)) == 80


def test_picture_that_kills_its_actor_fails_alone(tmp_path, model, photos):
    out = tmp_path / "out"
    code = """
        import sys
        from runtime import ray_worker

        class Deadly(ray_worker.BlockDetector):
            def _detect(self, block):
                if any("005.png" in picture for picture, _ in block):
                    raise RuntimeError("the CUDA context is lost")
                return super()._detect(block)

        from runtime import ray_pool
        ray_pool.BlockDetector, ray_pool._RETRIES = Deadly, 1
        from runtime.__main__ import main
        sys.exit(main(["detect", *sys.argv[1:]]))
    """
    done = run_python(code, model, photos, "-o", out, "--ray", cwd=ROOT)
    assert done.returncode == 2, done.stderr
    assert pictures_of(out) == Counter(map(str, photos.iterdir()))
    [failure] = run_json(out)["result"]["failed"]
    assert (
        f"no detections in picture {photos / '005.png'}: its actor died each of 2 times" in failure
    )
    assert run_json(out)["result"]["pictures"] == 10
    assert "the CUDA context is lost" in done.stderr


def test_disk_that_is_full_for_an_actor_ends_the_run(tmp_path, model, photos):
    job = Job(folder=tmp_path, model=model, nms="soft", max_batch=1, score_threshold=0)
    block = [(str(photos / "000.png"), str(model / "000.png"))]  # no folder
    row = BlockDetector(job)({"block": json.dumps(block)})
    problem = json.loads(row["result"])["problem"]
    assert f"cannot write {model / '000.png'}" in problem["words"]
    with pytest.raises(NotWritableError, match=r"cannot write .*000.png: .* \(on "):
        raise_problem(problem)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_interrupted_run_leaves_no_process_and_is_resumed(tmp_path, model, many, number, mark):
    out = tmp_path / "out"
    environment = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"}
    environment |= {"CODETR_TEST": mark}
    with running(model, many, "-o", out, "--ray", env=environment, process_group=0) as process:
        wait_for_lines(out, 4, process)
        assert len(processes_with(mark)) > 3  # Ray's own
        if number == signal.SIGKILL:
            process.kill()
        else:
            os.killpg(process.pid, number)  # as a terminal does
        _, told = process.communicate(timeout=60)
    assert process.returncode == (-number if number == signal.SIGKILL else 130), told
    if number != signal.SIGKILL:
        assert "--resume goes on" in told
        assert "Traceback" not in told
    end = time.monotonic() + 120  # Ray's processes miss a killed driver after some time only
    while left := processes_with(mark):
        assert time.monotonic() < end, left
        time.sleep(0.2)
    done = len(records(out))
    assert 4 <= done < 80
    assert set(files(out)) >= {record["output"] for record in records(out)}
    if number != signal.SIGKILL:
        return  # goes on as after a crash
    assert detect(model, many, "-o", out, "--resume", "--ray", "--actors", 2) == 0
    assert pictures_of(out) == Counter(map(str, many.iterdir()))
    assert run_json(out)["result"]["pictures"] == 80 - done
    assert len(files(out)) == len(coco(out)["images"]) == 80
