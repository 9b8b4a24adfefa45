"""Runs of ``detect`` over many pictures and videos: what is written when, and how they resume."""

import os
import resource
import signal
from collections import Counter

import pytest

from runtime.sources import Video
from runtime.video import VideoReader
from tests.runtime.detect_folder import (
    coco,
    detect,
    files,
    records,
    run_json,
    running,
    save_photos,
    wait_for_lines,
)
from tests.runtime.tiny_model import save_tiny_model
from tests.runtime.videos import Station, damage, save_video


@pytest.fixture
def photos(tmp_path):
    return save_photos(tmp_path / "photos", 6)


def test_lines_and_report(tmp_path, model, photos):
    out = tmp_path / "out"
    assert detect(model, photos, tmp_path / "none.png", "-o", out, "--score-threshold", 0) == 2
    failure, *found = sorted(records(out), key=lambda record: "error" not in record)
    assert failure["image"] == str(tmp_path / "none.png")
    assert "No such file" in failure["error"]
    assert [record["image"] for record in found] == sorted(map(str, photos.iterdir()))
    assert found[0].keys() == {"image", "width", "height", "detections", "output"}
    assert found[0]["output"] == "000.png"
    assert found[0]["detections"][0].keys() == {"category_id", "category", "bbox", "score"}
    report = run_json(out)
    assert report["settings"]["score_threshold"] == 0
    assert report["result"]["pictures"] == 6
    assert report["result"]["failed"] == [failure["error"]]
    assert report["result"]["detections"] == len(coco(out)["annotations"]) == 18
    assert "onnxruntime" in report["machine"]


def test_json_only(tmp_path, model, photos):
    clip = save_video(tmp_path / "clip.mp4", 5)
    out = tmp_path / "out"
    assert detect(model, photos, clip, "-o", out, "--json-only") == 0
    assert {path.suffix for path in out.iterdir()} == {".json", ".jsonl"}
    assert len(coco(out)["images"]) == 6 + 5
    assert not any("output" in record for record in records(out))


def test_video(tmp_path, model, capsys):
    clip = save_video(tmp_path / "clip.mp4", 10, size=(240, 320))
    out = tmp_path / "out"
    assert detect(model, clip, "-o", out) == 0
    *frames, end = records(out)
    assert [frame["frame"] for frame in frames] == list(range(10))
    assert [frame["seconds"] for frame in frames] == [n / 25 for n in range(10)]
    assert end == {
        "video": str(clip),
        "frames": 10,
        "damaged": 0,
        "dropped": 0,
        "lost": False,
        "output": "clip.mp4",
    }
    drawn = list(VideoReader(Video(str(out / "clip.mp4")), print).frames())
    plain = list(VideoReader(Video(str(clip)), print).frames())
    assert [frame.seconds for frame in drawn] == [frame.seconds for frame in plain]
    assert all((a.image != b.image).any() for a, b in zip(drawn, plain, strict=True))
    assert coco(out)["images"][3]["frame"] == 3
    assert "10 frames of 1 of 1 videos" in capsys.readouterr().out


def test_damaged_and_missing_videos_do_not_stop_the_others(tmp_path, model, capsys):
    bad = damage(save_video(tmp_path / "bad.mp4", 60, size=(240, 320)))
    text = tmp_path / "text.mp4"
    text.write_text("no video")
    good = save_video(tmp_path / "good.mp4", 4)
    out = tmp_path / "out"
    assert detect(model, bad, text, good, "-o", out) == 2
    result = run_json(out)["result"]
    assert result["videos"] == 2
    assert result["damaged"] > 0
    assert result["frames"] + result["damaged"] >= 60
    [failure] = result["failed"]
    assert f"cannot open video {text}" in failure
    captured = capsys.readouterr()
    assert captured.err.count("error: ") == 1
    assert "frames damaged" in captured.out


def test_resume_does_only_what_is_left(tmp_path, model, photos):
    out = tmp_path / "out"
    missing = photos / "006.png"
    assert detect(model, photos, missing, "-o", out) == 2
    before, first = files(out), records(out)
    save_photos(photos, 8)
    assert detect(model, photos, "-o", out, "--resume") == 0
    after = files(out)
    assert {name: after[name] for name in before} == before
    assert after.keys() - before.keys() == {"006.png", "007.png"}
    assert [record["image"] for record in records(out)] == sorted(map(str, photos.iterdir()))
    assert records(out)[:6] == [record for record in first if "error" not in record]
    assert len(coco(out)["images"]) == 8
    assert run_json(out)["result"]["pictures"] == 2


def test_resume_drops_half_a_line_and_half_a_video(tmp_path, model, photos):
    clip = save_video(tmp_path / "clip.mp4", 5)
    out = tmp_path / "out"
    assert detect(model, photos, clip, "-o", out) == 0
    whole = records(out)
    lines = (out / "detections.jsonl").read_text().splitlines(keepends=True)
    (out / "detections.jsonl").write_text("".join(lines[:-3]) + lines[-3][:20])
    first = sum(len(record["detections"]) for record in whole[:6])
    (out / "clip.mp4").unlink()
    assert detect(model, photos, clip, "-o", out, "--resume") == 0
    assert records(out) == whole
    assert (out / "clip.mp4").exists()
    assert run_json(out)["result"] | {"seconds": 0, "per_second": 0} == {
        "pictures": 0,
        "videos": 1,
        "frames": 5,
        "detections": len(coco(out)["annotations"]) - first,
        "damaged": 0,
        "dropped": 0,
        "failed": [],
        "seconds": 0,
        "per_second": 0,
    }


def test_run_that_is_finished_can_be_resumed(tmp_path, model, photos, capsys):
    out = tmp_path / "out"
    assert detect(model, photos, "-o", out) == 0
    before = files(out), records(out), coco(out)
    assert detect(model, photos, "-o", out, "--resume") == 0
    assert (files(out), records(out), coco(out)) == before
    assert "nothing was left to do" in capsys.readouterr().out


def test_without_resume_a_run_starts_anew(tmp_path, model, photos):
    out = tmp_path / "out"
    assert detect(model, photos, "-o", out) == 0
    assert detect(model, photos / "000.png", "-o", out) == 0
    assert len(records(out)) == 1


def test_other_settings_are_not_resumed(tmp_path, model, photos, capsys):
    out = tmp_path / "out"
    assert detect(model, photos, "-o", out, "--resume") == 2
    assert "nothing to resume" in capsys.readouterr().err
    assert detect(model, photos, "-o", out) == 0
    assert detect(model, photos, "-o", out, "--resume", "--score-threshold", 0.5) == 2
    assert "had score_threshold 0.3, now it is 0.5" in capsys.readouterr().err
    save_tiny_model(model, height=64)
    assert detect(model, photos, "-o", out, "--resume") == 2
    assert "had models" in capsys.readouterr().err
    (out / "run.json").write_text("[]")
    assert detect(model, photos, "-o", out, "--resume") == 2
    assert "is no run of detect" in capsys.readouterr().err


def test_damaged_journal_is_told(tmp_path, model, photos, capsys):
    out = tmp_path / "out"
    assert detect(model, photos, "-o", out) == 0
    lines = (out / "detections.jsonl").read_text()
    (out / "detections.jsonl").write_text("nonsense\n" + lines)
    assert detect(model, photos, "-o", out, "--resume") == 2
    assert "line 1 of" in capsys.readouterr().err
    assert (out / "detections.jsonl").read_text() == "nonsense\n" + lines  # not lost


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGKILL, -9), (signal.SIGINT, 130), (signal.SIGTERM, 143)]
)
def test_interrupted_run_is_resumed_with_each_picture_once(tmp_path, model, number, code):
    photos = save_photos(tmp_path / "photos", 150, size=300)
    out = tmp_path / "out"
    with running(model, photos, "-o", out) as process:
        wait_for_lines(out, 5, process)
        process.send_signal(number)
        _, told = process.communicate(timeout=60)
    assert process.returncode == code
    done = len(records(out))
    assert 5 <= done < 150
    assert not (out / "detections.json").exists()
    if number != signal.SIGKILL:
        assert "--resume goes on" in told
        assert "Traceback" not in told
        assert not list(out.glob(".*"))
    assert detect(model, photos, "-o", out, "--resume") == 0
    assert Counter(r["image"] for r in records(out)) == Counter(map(str, photos.iterdir()))
    assert run_json(out)["result"]["pictures"] == 150 - done
    assert len(files(out)) == len(coco(out)["images"]) == 150


def test_full_disk_is_told_and_resumed(tmp_path, model):
    photos = save_photos(tmp_path / "photos", 40, size=100)
    out = tmp_path / "out"

    def limit():  # the journal meets it first
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))

    with running(model, photos, "-o", out, "--json-only", preexec_fn=limit) as process:
        _, told = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "File too large" in told
    assert "--resume" in told
    assert told.count("\n") == 1
    assert detect(model, photos, "-o", out, "--json-only", "--resume") == 0
    assert Counter(r["image"] for r in records(out)) == Counter(map(str, photos.iterdir()))


def test_video_on_a_full_disk(tmp_path, model):
    clip = save_video(tmp_path / "clip.mp4", 200, size=(240, 320))
    out = tmp_path / "out"

    def limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))

    with running(model, clip, "-o", out, "--score-threshold", 1, preexec_fn=limit) as process:
        _, told = process.communicate(timeout=60)
    assert process.returncode == 2, told
    assert told.count("\n") == 1
    assert "--resume" in told
    assert not (out / "clip.mp4").exists()


def test_live_stream_ends_with_ctrl_c_and_keeps_its_video(tmp_path, model):
    save_video(tmp_path / "a.ts", 500)
    station = Station(tmp_path / "a.ts", connections=1, pause=0.02)
    out = tmp_path / "out"
    with running(model, station.url, "-o", out) as process:
        wait_for_lines(out, 3, process)
        os.kill(process.pid, signal.SIGINT)
        output, told = process.communicate(timeout=60)
    assert process.returncode == 0, told
    *frames, end = records(out)
    assert end["frames"] == len(frames) >= 3
    assert not end["lost"]
    [video] = out.glob("*.mp4")
    assert len(list(VideoReader(Video(str(video)), print).frames())) == len(frames)
    assert "1 of 1 videos" in output
