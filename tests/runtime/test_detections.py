import json

import numpy as np
import pytest

from runtime.coco_json import write_coco
from runtime.detections import Detections
from runtime.errors import UserError


def three(**changes):
    fields = {
        "boxes": np.array([[0, 0, 10, 20], [1.234, 2, 3.456, 4], [5, 5, 6, 6]], np.float32),
        "scores": np.array([0.9, 0.5, 0.123456], np.float32),
        "labels": np.array([1, 0, 1], np.int64),
        "classes": ("cat", "dog"),
    }
    return Detections(**fields | changes)


def none():
    return three(
        boxes=np.zeros((0, 4), np.float32),
        scores=np.zeros(0, np.float32),
        labels=np.zeros(0, np.int64),
    )


def test_length_and_repr():
    assert len(three()) == 3
    assert repr(three()) == "Detections(3: 1 cat, 2 dog)"
    assert repr(none()) == "Detections(0)"


def test_above_includes_the_threshold():
    confident = three().above(0.5)
    assert confident.scores.tolist() == [np.float32(0.9), 0.5]
    assert confident.labels.tolist() == [1, 0]
    assert confident.boxes.shape == (2, 4)
    assert len(three().above(1)) == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"boxes": np.zeros((3, 5), np.float32)}, r"boxes must be float32 \(3, 4\)"),
        ({"boxes": np.zeros((3, 4))}, "got float64"),
        ({"scores": np.zeros(2, np.float32)}, r"scores must be float32 \(3,\), got float32 \(2,\)"),
        ({"labels": np.zeros(3, np.int32)}, "labels must be int64"),
        ({"labels": np.array([0, 1, 2])}, r"labels must be in 0..1, got 0..2"),
        ({"labels": np.array([0, 1, -1])}, r"got -1..1"),
    ],
)
def test_wrong_fields_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        three(**changes)


def test_coco_annotations():
    first, second, third = three().to_coco(7, first_id=11)
    assert first == {
        "id": 11,
        "image_id": 7,
        "category_id": 2,
        "bbox": [0.0, 0.0, 10.0, 20.0],
        "score": 0.9,
    }
    assert second["bbox"] == [1.23, 2.0, 2.22, 2.0]
    assert (third["id"], third["score"]) == (13, 0.12346)
    assert none().to_coco(1) == []


def test_json_file(tmp_path):
    records = [
        {"image": "a/ü.jpg", "width": 640, "height": 480, "detections": three().records()},
        {"image": "b.jpg", "width": 64, "height": 48, "detections": none().records()},
        {"video": "c.mp4", "frame": 7, "detections": three().above(0.8).records()},
    ]
    write_coco(records, ("cat", "dog"), tmp_path / "detections.json")
    data = json.loads((tmp_path / "detections.json").read_text(encoding="utf-8"))
    assert data["images"][0] == {"id": 1, "file_name": "a/ü.jpg", "width": 640, "height": 480}
    assert data["images"][2] == {"id": 3, "file_name": "c.mp4", "frame": 7}
    assert data["categories"] == [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
    assert [a["id"] for a in data["annotations"]] == [1, 2, 3, 4]
    assert data["annotations"] == [*three().to_coco(1), *three().above(0.8).to_coco(3, first_id=4)]


def test_json_into_an_impossible_folder(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        write_coco([], ("cat",), tmp_path / "file" / "detections.json")


def test_records():
    assert three().records()[0] == {
        "category_id": 2,
        "category": "dog",
        "bbox": [0.0, 0.0, 10.0, 20.0],
        "score": 0.9,
    }


def test_pandas():
    frame = three().to_pandas()
    assert list(frame.columns) == ["x1", "y1", "x2", "y2", "score", "label", "category"]
    assert frame["category"].tolist() == ["dog", "cat", "dog"]
    np.testing.assert_array_equal(frame[["x1", "y1", "x2", "y2"]].to_numpy(), three().boxes)
    assert len(none().to_pandas()) == 0


def test_supervision():
    found = three().to_supervision()
    np.testing.assert_array_equal(found.xyxy, three().boxes)
    np.testing.assert_array_equal(found.confidence, three().scores)
    assert found.class_id.tolist() == [1, 0, 1]
    assert found.data["class_name"].tolist() == ["dog", "cat", "dog"]
    assert len(found[found.confidence > 0.4]) == 2
    assert len(none().to_supervision()) == 0


def test_table_for_notebooks():
    table = three(classes=("<b>", "dog"))._repr_html_()
    assert table.count("<tr>") == 4
    assert table.count("&lt;b&gt;") == 2
    assert "<b>" not in table
    assert "<td>0.90</td><td>[0.0, 0.0, 10.0, 20.0]</td>" in table


def test_drawing():
    image = np.full((40, 40, 3), 90, np.uint8)
    drawn = three().draw(image)
    assert (drawn != image).any()
    assert (image == 90).all()
