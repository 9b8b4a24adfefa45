"""``python -m runtime eval`` with an engine."""

import json

import numpy as np
import pytest

from runtime import Detector
from runtime.__main__ import main
from runtime.images import write_image

pytestmark = pytest.mark.gpu


def test_engine(small_engine, tmp_path):
    with Detector(small_engine) as detector:
        name = detector.classes[0]
    images = [{"id": i, "file_name": f"{i}.png"} for i in range(3)]
    for image in images:
        noise = np.random.default_rng(image["id"]).integers(0, 256, (100, 150, 3), np.uint8)
        write_image(tmp_path / image["file_name"], noise)
    data = {"images": images, "categories": [{"id": 9, "name": name}]}
    data["annotations"] = [{"image_id": 1, "category_id": 9, "bbox": [20, 30, 40, 50]}]
    (tmp_path / "a.json").write_text(json.dumps(data))
    command = ["eval", small_engine, "--annotations", tmp_path / "a.json", "--images", tmp_path]
    command += ["--max-batch", 2, "--json", tmp_path / "ap.json"]
    assert main(list(map(str, command))) == 0
    result = json.loads((tmp_path / "ap.json").read_text())
    assert result["machine"].keys() >= {"cpu", "gpu", "driver", "cuda", "tensorrt"}
    (row,) = result["rows"]
    assert (row["contender"], row["batch"], row["images"]) == ("engine-fp16", 2, 3)
    assert 0 <= row["ap"] <= 1
    assert not any("NaN" in warning for warning in row["warnings"])
