"""``python -m runtime eval`` with a model whose detections are known by construction."""

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from runtime.coco_ap import FIGURES
from runtime.files import sha256_of
from tests.processes import run_on_terminal
from tests.runtime.coco_files import IDS, RGB, Files
from tests.runtime.tiny_model import UNIT_BOXES, expected_scores

ROOT = Path(__file__).parents[2]
SIZES = [(120, 200), (480, 640), (300, 210)]


@pytest.fixture
def files(tmp_path):
    return Files(tmp_path, SIZES, [RGB] * 3)


@pytest.fixture
def one(tmp_path):
    return Files(tmp_path, [(480, 640)], [RGB])


def by_pycocotools(annotations, detections):
    """The 12 figures, with nothing of ours between the two files and pycocotools."""
    truth = COCO(annotations)
    evaluation = COCOeval(truth, truth.loadRes(str(detections)), "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return evaluation.stats


def test_detections_equal_to_the_annotations(files, capsys):
    row = files.row()
    assert [row[key] for key in ("ap", "ap50", "ap75", "ar1", "ar100")] == [1] * 5
    assert row["ap_small"] is None  # there is no small object
    assert row["per_class"] == {
        name: {"ap": 1, "ap50": 1, "annotations": 3, "detections": 3} for name in IDS
    }
    assert row["warnings"] == []
    out, err = capsys.readouterr()
    assert err == ""
    assert out.count("1.000") == 2 * 3 + 10  # AP and AP50 of each class; all but two figures
    assert "9 objects in 3 pictures, 9 detections in" in out


def test_json(files):
    out = files.folder / "new" / "ap.json"
    files.eval()
    command = ["eval", files.model, "--annotations", files.annotations]
    command += ["--images", files.images, "--json", out]
    command = list(map(str, command))
    done = subprocess.run(
        [sys.executable, "-m", "runtime", *command],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    assert done.stderr == ""
    assert "Accumulating" not in done.stdout  # what pycocotools says
    result = json.loads(out.read_text())
    assert result.keys() == {"machine", "command", "rows"}
    assert result["command"] == f"python -m runtime {' '.join(command)}"
    assert result["machine"].keys() == {"cpu", "cpu_count", "python", "onnxruntime"}
    (row,) = result["rows"]
    assert row.keys() >= {*FIGURES, "per_class", "detections", "warnings"}
    assert {key: row[key] for key in ("contender", "model", "height", "width", "batch")} == {
        "contender": "onnxruntime-fp32",
        "model": "tiny",
        "height": 48,
        "width": 64,
        "batch": 1,
    }
    assert (row["dataset"], row["images"], row["annotations"]) == ("instances", 3, 9)
    assert (row["nms"], row["score_threshold"]) == ("soft", 0)
    assert row["pictures_per_s"] == pytest.approx(3 / row["seconds"], rel=0.1)
    assert row["model_sha256"] == sha256_of(files.model)
    assert row["annotations_sha256"] == sha256_of(files.annotations)


def test_shifted_boxes(files):
    # Moved by a tenth of its width, IoU 0.9 / 1.1 = 0.82: found at 0.50, 0.55 … 0.80, 7 of 10.
    for cat in files.of("cat"):
        cat["bbox"][0] += 0.1 * cat["bbox"][2]
    # By half: IoU 1/3, never found.
    for bird in files.of("bird"):
        bird["bbox"][1] += 0.5 * bird["bbox"][3]
    row = files.row()
    assert {name: figures["ap"] for name, figures in row["per_class"].items()} == {
        "cat": pytest.approx(0.7),
        "dog": 1,
        "bird": 0,
    }
    assert row["ap"] == pytest.approx((0.7 + 1 + 0) / 3)
    assert row["ap50"] == pytest.approx(2 / 3, abs=1e-6)
    assert row["ap75"] == pytest.approx(2 / 3, abs=1e-6)


def test_figures_are_those_of_pycocotools(tmp_path):
    rng = np.random.default_rng(0)
    sizes = rng.integers(20, 400, (30, 2)).tolist()
    files = Files(tmp_path, sizes, rng.integers(0, 256, (30, 3)).tolist(), batch=4)
    for index, annotation in enumerate(files.data["annotations"]):
        annotation["bbox"] = (np.array(annotation["bbox"]) * rng.normal(1, 0.08, 4)).tolist()
        annotation["id"] = index + 1
        annotation["iscrowd"] = int(index % 10 == 0)
    files.annotate(100, "dog", [1, 2, 30, 20], id=1000)  # nobody finds it
    row = files.row("--save-detections", tmp_path / "found.json", "--score-threshold", 0.1)
    figures = [-1 if row[key] is None else row[key] for key in FIGURES]
    expected = by_pycocotools(files.annotations, tmp_path / "found.json")
    np.testing.assert_allclose(figures, expected, atol=1e-6)
    assert len(set(figures)) > 8  # many different ones, or this test says little
    assert 0.1 < row["ap"] < 0.9


def test_annotation_ids_do_not_matter(files):
    # pycocotools would take an object of id 0 for one never found, and mix up equal ids.
    for annotation in files.data["annotations"]:
        annotation["id"] = 0
    assert files.row()["ap"] == 1
    for annotation in files.data["annotations"]:
        del annotation["id"], annotation["area"], annotation["iscrowd"]
    assert files.row()["ap"] == 1


def test_crowds_are_neither_missed_nor_wrong(one):
    one.of("dog")[0]["iscrowd"] = 1
    one.annotate(100, "cat", [0, 0, 10, 10], iscrowd=1)
    row = one.row()
    assert row["ap"] == 1
    assert row["per_class"]["dog"] == {"ap": None, "ap50": None, "annotations": 0, "detections": 1}
    assert row["annotations"] == 2


def test_size_classes_follow_the_stated_area(one):
    for annotation in one.data["annotations"]:
        annotation["area"] = 1000
    row = one.row()
    assert (row["ap_small"], row["ap_large"]) == (1, None)


def test_saved_detections(one):
    out = one.folder / "found.json"
    one.eval("--save-detections", out)
    found = json.loads(out.read_text())
    assert [(d["image_id"], d["category_id"]) for d in found] == [(100, 17), (100, 90), (100, 3)]
    for detection, unit_box, score in zip(found, UNIT_BOXES, expected_scores(RGB), strict=True):
        x, y, w, h = detection["bbox"]
        np.testing.assert_allclose([x, y, x + w, y + h], unit_box * [640, 480, 640, 480], atol=0.02)
        assert detection["score"] == pytest.approx(score, abs=1e-5)


def test_score_threshold_and_limit(files):
    row = files.row("--score-threshold", 0.45, "--limit", 2)
    assert (row["images"], row["annotations"], row["detections"]) == (2, 6, 4)
    assert row["per_class"]["bird"]["ap"] == 0
    assert row["ap"] == pytest.approx(2 / 3, abs=1e-6)
    assert row["score_threshold"] == 0.45
    assert files.row("--limit", 9)["images"] == 3


def test_nms(tmp_path):
    files = Files(tmp_path, [(480, 640)], [(60, 110, 200)])  # scores rise: the model's order
    order = {}
    for mode in ("soft", "hard", "none"):
        out = tmp_path / "found.json"
        assert files.row("--nms", mode, "--save-detections", out)["nms"] == mode
        order[mode] = [detection["category_id"] for detection in json.loads(out.read_text())]
    assert order == {"soft": [3, 90, 17], "hard": [3, 90, 17], "none": [17, 90, 3]}


@pytest.mark.parametrize("batch", [2, "batch"])
def test_batches(tmp_path, batch):
    sizes = [(20 + i, 90 - 3 * i) for i in range(11)]
    files = Files(tmp_path, sizes, [RGB] * 11, batch=batch)
    row = files.row("--max-batch", 2)
    assert (row["batch"], row["images"], row["detections"]) == (2, 11, 33)
    assert row["ap"] == 1


def told(files, capsys, *messages, code=0):
    """The row, after checking that these lines and no others are on stderr."""
    row = files.row(code=code)
    lines = capsys.readouterr().err.splitlines()
    assert [line for line in lines if line.startswith("warning: ")] == [
        f"warning: {warning}" for warning in row["warnings"]
    ]
    assert len(lines) == len(messages)
    for line, message in zip(lines, messages, strict=True):
        assert message in line
    return row


def test_wrong_classes_are_told(files, capsys):
    names = {"cat": "dog", "dog": "bird", "bird": "cat"}
    for category in files.data["categories"]:
        category["name"] = names[category["name"]]
    row = told(files, capsys, "AP is 0: none of 9 detections")
    assert row["ap"] == 0


def test_category_the_model_does_not_know(files, capsys):
    files.data["categories"][0]["name"] = "puppy"
    row = told(
        files,
        capsys,
        "does not know 1 of 3 categories: puppy; the figures leave them and their 3 annotations",
        "1 of the model's 3 classes are no category of",
    )
    assert "dog; 3 detections of them do not count" in row["warnings"][1]
    assert row["ap"] == 1
    assert row["per_class"].keys() == {"bird", "cat"}
    assert row["detections"] == 6


def test_empty_boxes_are_told(one, capsys):
    one.annotate(100, "cat", [10, 10, 0, 5])
    row = told(one, capsys, "1 annotations have an empty box")
    assert row["per_class"]["cat"]["ap"] == pytest.approx(51 / 101, abs=1e-6)  # recall 1/2


def test_no_detections_are_told(one, capsys):
    assert one.eval("--score-threshold", 1) == 0
    assert "the model detected nothing that counts, so AP is 0" in capsys.readouterr().err


def test_not_a_number_is_told(tmp_path, capsys):
    files = Files(tmp_path, [(480, 640)], [RGB])
    spoil_the_cat(files.model)
    row = told(files, capsys, "NaN or infinity for 1 pictures: 0.png")
    assert row["per_class"]["cat"]["ap"] == 0
    assert row["detections"] == 2


def spoil_the_cat(path):
    """Let the model put out NaN for the score of the cat."""
    model = onnx.load(path)
    nodes = model.graph.node
    index = next(i for i, node in enumerate(nodes) if "logits" in node.output)
    nodes[index].output[0] = "plain"
    nodes.insert(index + 1, helper.make_node("Mul", ["plain", "factors"], ["logits"]))
    factors = helper.make_tensor("factors", onnx.TensorProto.FLOAT, [3], [math.nan, 1, 1])
    model.graph.initializer.append(factors)
    onnx.save(model, path)


def test_picture_of_another_size_is_told(one, capsys):
    one.data["images"][0]["width"] = 320
    row = told(one, capsys, "1 pictures have another size than the annotations state: 0.png")
    assert row["ap"] == 1


def test_unreadable_picture_is_left_out_and_told(files, capsys):
    (files.images / "sub" / "1.png").write_text("no picture")
    row = told(
        files, capsys, "error: cannot decode picture", "1 of 3 pictures could not be read", code=2
    )
    assert (row["images"], row["annotations"], row["ap"]) == (2, 6, 1)


def test_progress_bar_on_a_terminal(files):
    files.eval()
    command = [sys.executable, "-m", "runtime", "eval", files.model, "--images", files.images]
    command += ["--annotations", files.annotations]
    code, output, shown = run_on_terminal(command, cwd=ROOT)
    assert code == 0
    assert b"9 objects in 3 pictures" in output
    assert b"Evaluating" in shown
    assert b"100%" in shown
