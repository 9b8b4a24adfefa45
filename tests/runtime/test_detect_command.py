import os
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

import runtime
from runtime.images import read_image, write_image
from tests.processes import run_on_terminal
from tests.runtime.detect_folder import ROOT, coco, detect
from tests.runtime.tiny_model import UNIT_BOXES, expected_scores, save_plugin_model, save_tiny_model

RGB = (200, 110, 60)  # scores of the tiny model: 0.79, 0.47, 0.32


@pytest.fixture
def photo(tmp_path):
    return save_plain(tmp_path / "photo.png")


def save_plain(path, height=120, width=200, rgb=RGB):
    write_image(path, np.full((height, width, 3), rgb, np.uint8))
    return path


def names(folder):
    return sorted(path.name for path in folder.iterdir())


JSON = ["detections.json", "detections.jsonl", "run.json"]
"""What every finished run writes."""


def test_picture_and_json(tmp_path, model, photo, capsys):
    out = tmp_path / "out"
    assert detect(model, photo, "-o", out) == 0
    assert names(out) == sorted([*JSON, "photo.png"])
    drawn = read_image(out / "photo.png")
    assert drawn.shape == (120, 200, 3)
    assert (drawn != RGB).any()
    data = coco(out)
    assert data["images"] == [{"id": 1, "file_name": str(photo), "width": 200, "height": 120}]
    assert [a["category_id"] for a in data["annotations"]] == [1, 2, 3]
    for annotation, unit_box, score in zip(
        data["annotations"], UNIT_BOXES, expected_scores(RGB), strict=True
    ):
        x, y, w, h = annotation["bbox"]
        expected = unit_box * [200, 120, 200, 120]
        np.testing.assert_allclose([x, y, x + w, y + h], expected, atol=0.02)
        assert annotation["score"] == pytest.approx(score, abs=1e-5)
    captured = capsys.readouterr()
    assert captured.out.count("\n") == 1
    assert "3 detections in 1 of 1 pictures" in captured.out
    assert str(out) in captured.out
    assert captured.err == ""


def test_score_threshold(tmp_path, model, photo):
    assert detect(model, photo, "-o", tmp_path / "out", "--score-threshold", 0.45) == 0
    assert [a["category_id"] for a in coco(tmp_path / "out")["annotations"]] == [1, 2]


def test_nms_option(tmp_path, model):
    rising = save_plain(tmp_path / "rising.png", rgb=(60, 110, 200))
    labels = {}
    for mode in ("soft", "hard", "none"):
        out = tmp_path / mode
        assert detect(model, rising, "-o", out, "--nms", mode, "--score-threshold", 0) == 0
        labels[mode] = [a["category_id"] for a in coco(out)["annotations"]]
    assert labels == {"soft": [3, 2, 1], "hard": [3, 2, 1], "none": [1, 2, 3]}


def test_folder_is_sorted_and_not_recursive(tmp_path, model):
    photos = tmp_path / "photos"
    for name in ("b.png", "a.JPG", "c.bmp", ".hidden.png", "deeper/d.png"):
        save_plain(photos / name)
    (photos / "notes.txt").write_text("not a picture")
    assert detect(model, photos, "-o", tmp_path / "out") == 0
    files = [Path(image["file_name"]).name for image in coco(tmp_path / "out")["images"]]
    assert files == ["a.JPG", "b.png", "c.bmp"]


@pytest.mark.parametrize("batch", [2, "batch"])
def test_batches(tmp_path, batch):
    model = save_tiny_model(tmp_path / "m.onnx", batch=batch)
    photos = tmp_path / "photos"
    for i in range(11):
        save_plain(photos / f"{i:02}.png", height=20 + i)
    assert detect(model, photos, "-o", tmp_path / "out") == 0
    data = coco(tmp_path / "out")
    assert [image["height"] for image in data["images"]] == list(range(20, 31))
    whole = [a["bbox"][3] for a in data["annotations"] if a["category_id"] == 1]
    np.testing.assert_allclose(whole, range(20, 31), atol=0.02)


def test_file_behind_a_link_is_not_overwritten(tmp_path, model):
    real = save_plain(tmp_path / "real" / "x.png")
    (tmp_path / "x.png").symlink_to(real)
    before = real.read_bytes()
    assert detect(model, tmp_path / "x.png", "-o", tmp_path / "real") == 0
    assert real.read_bytes() == before
    assert names(tmp_path / "real") == [*JSON, "x-2.png", "x.png"]


def test_equal_names_do_not_overwrite_each_other(tmp_path, model):
    inputs = [
        save_plain(tmp_path / name, height=20 + i)
        for i, name in enumerate(["a/x.png", "b/x.jpg", "b/X.bmp", "x-2.png"])
    ]
    out = tmp_path / "out"
    assert detect(model, *inputs, *inputs, "-o", out) == 0
    assert len(coco(out)["images"]) == 4
    heights = {path.name: read_image(path).shape[0] for path in out.glob("*.png")}
    assert heights == {"x.png": 20, "x-2.png": 21, "X-3.png": 22, "x-2-2.png": 23}


def test_inputs_are_never_overwritten(tmp_path, model):
    photos = tmp_path / "photos"
    save_plain(photos / "x.png")
    save_plain(photos / "y.jpg")
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / "z.png").symlink_to(save_plain(photos / "real.png"))
    (photos / "z.png").symlink_to(photos / "real.png")
    before = {path: path.read_bytes() for path in photos.iterdir()}
    inputs = [photos / "x.png", photos / "y.jpg", photos / "z.png", tmp_path / "links" / "z.png"]
    assert detect(model, *inputs, "-o", tmp_path / "links" / ".." / "photos") == 0
    assert {path: path.read_bytes() for path in before} == before
    assert (photos / "z.png").is_symlink()
    added = {path.name for path in photos.iterdir()} - {path.name for path in before}
    assert added == {*JSON, "x-2.png", "y.png", "z-2.png", "z-3.png"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "No such file"),
        (b"", "the file is empty"),
        (b"just some text", "not a picture"),
        ("cut", "cut short"),
    ],
    ids=["missing", "zero-byte", "text", "cut"],
)
def test_one_bad_picture_does_not_stop_the_others(tmp_path, model, content, message, capfd):
    good = [save_plain(tmp_path / f"{name}.png") for name in "ab"]
    bad = tmp_path / "bad.jpg"
    if content == "cut":
        noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
        content = cv2.imencode(".jpg", noise)[1].tobytes()[:1000]
    if content is not None:
        bad.write_bytes(content)
    out = tmp_path / "out"
    assert detect(model, good[0], bad, good[1], "-o", out) == 2
    assert names(out) == ["a.png", "b.png", *JSON]
    assert [image["file_name"] for image in coco(out)["images"]] == list(map(str, good))
    captured = capfd.readouterr()
    errors = [line for line in captured.err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert message in errors[0]
    assert str(bad) in errors[0]
    assert "in 2 of 3 pictures" in captured.out


@pytest.mark.parametrize("shape", [(1, 1), (10000, 100)])
def test_extreme_pictures(tmp_path, model, shape):
    photo = save_plain(tmp_path / "p.png", *shape)
    assert detect(model, photo, "-o", tmp_path / "out") == 0
    assert read_image(tmp_path / "out" / "p.png").shape == (*shape, 3)


def assert_refused(capsys, message):
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("python -m runtime: error: ")
    assert captured.err.count("\n") == 1
    assert message in captured.err


@pytest.mark.parametrize("score", ["-0.1", "1.01", "nan", "high"])
def test_score_threshold_out_of_range(tmp_path, model, photo, score, capsys):
    assert detect(model, photo, "-o", tmp_path / "out", f"--score-threshold={score}") == 2
    assert_refused(capsys, f"--score-threshold must be a number from 0 to 1, got {score}")
    assert not (tmp_path / "out").exists()


def test_output_folder_is_refused_before_the_model_is_loaded(tmp_path, photo, capsys):
    # Tests may run as root, whom permissions do not stop: a path under a file stops everyone.
    (tmp_path / "file").write_text("")
    for out in (tmp_path / "file", tmp_path / "file" / "out"):
        assert detect(tmp_path / "no-such-model.onnx", photo, "-o", out) == 2
        assert_refused(capsys, f"cannot write to folder {out}")


@pytest.mark.skipif(os.geteuid() == 0, reason="permissions do not stop root")
def test_read_only_output_folder(tmp_path, model, photo, capsys):
    out = tmp_path / "out"
    out.mkdir(mode=0o555)
    assert detect(model, photo, "-o", out) == 2
    assert_refused(capsys, "Permission denied")


def test_folder_without_pictures(tmp_path, model, capsys):
    (tmp_path / "empty").mkdir()
    assert detect(model, tmp_path / "empty", "-o", tmp_path / "out") == 2
    assert_refused(capsys, "no pictures in folder")


def test_wrong_models(tmp_path, photo, capsys):
    save_plugin_model(tmp_path / "model.onnx")
    (tmp_path / "model.engine").write_bytes(b"ftrt")
    for name, message in [
        ("none.onnx", "no model file"),
        ("model.onnx", "model.ref.onnx"),
        ("model.engine", "manifest"),
        ("photo.png", "suffix"),
    ]:
        assert detect(tmp_path / name, photo, "-o", tmp_path / "out") == 2
        assert_refused(capsys, message)
        assert names(tmp_path / "out") == []


def test_options_are_not_abbreviated(tmp_path, model, photo):
    with pytest.raises(SystemExit) as error:
        detect(model, photo, "--out", tmp_path / "out")
    assert error.value.code == 2


def test_progress_bar_on_a_terminal(tmp_path, model, photo):
    command = [sys.executable, "-m", "runtime", "detect", model, photo, tmp_path / "none.png"]
    command += ["-o", tmp_path / "out"]
    code, output, shown = run_on_terminal(command, cwd=ROOT)
    assert code == 2
    assert b"in 1 of 2 pictures" in output
    assert b"Detecting" in shown
    assert b"1/2" in shown
    assert b"error: cannot read picture" in shown


def test_public_names():
    for name in runtime.__all__:
        assert getattr(runtime, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'Detectors'"):
        _ = runtime.Detectors
    assert not hasattr(runtime, "nms")
