import json

import numpy as np
import pytest

from runtime import Detector, UserError
from runtime.__main__ import main
from runtime.backend import ModelMetadata, ModelSpec
from runtime.images import write_image
from runtime.sizes import best_size, model_files
from tests.runtime.test_detector import assert_detects, plain
from tests.runtime.tiny_model import MEAN, STD, metadata, save_tiny_model

SIZES = [(48, 64), (64, 48), (48, 48), (24, 32)]


def spec(height, width):
    return ModelSpec(height, width, 1, True, ModelMetadata("tiny", "fp32", (), (), ()))


@pytest.mark.parametrize(
    ("picture", "best"),
    [
        ((480, 640), (48, 64)),
        ((640, 480), (64, 48)),
        ((100, 100), (48, 48)),
        ((100, 100.5), (48, 48)),  # nearly square: the fewest pixels
        ((100, 120), (48, 64)),
        ((3, 900), (48, 64)),
        ((4, 5), (48, 64)),  # enlarged too: as the model was trained
    ],
)
def test_best_size(picture, best):
    assert SIZES[best_size(*picture, [spec(*size) for size in SIZES])] == best


@pytest.fixture
def folder(tmp_path):
    models = tmp_path / "models"
    models.mkdir()
    for height, width in SIZES:
        save_tiny_model(models / f"{height}x{width}.ref.onnx", height=height, width=width, batch=2)
    (models / "notes.txt").touch()
    (models / "model.onnx").touch()
    return models


def test_pictures_of_all_shapes_keep_their_order(folder):
    pictures = [(30, 40), (40, 30), (50, 50), (33, 44), (10, 99), (60, 20), (7, 7)]
    seen = []
    with Detector(folder) as detector:
        for model in detector.models:
            infer, size = model.infer_images, (model.spec.height, model.spec.width)
            model.infer_images = lambda x, infer=infer, size=size: seen.append(size) or infer(x)
        assert detector.batch == 2
        for size, detections in zip(pictures, detector([plain(*s) for s in pictures]), strict=True):
            assert_detects(detections, *size)
        stream = detector.stream([plain(*size) for size in pictures])
        for size, (image, detections) in zip(pictures, stream, strict=True):
            assert image.shape[:2] == size
            assert_detects(detections, *size)
    assert set(seen) == set(SIZES[:3])


def test_engines_come_first(tmp_path, folder):
    assert len(model_files(folder)) == len(SIZES)
    (folder / "a.engine").touch()
    assert model_files(folder) == [folder / "a.engine"]
    assert model_files(folder / "model.onnx") == [folder / "model.onnx"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"no \.engine and no \.ref\.onnx in folder"):
        Detector(tmp_path / "empty")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"classes": ["cat", "dog", "fish"]}, "they differ in classes"),
        ({"preset": "other"}, "they differ in preset"),
        ({"precision": "fp16"}, "they differ in precision"),
        ({"preprocess": {"mean": MEAN.tolist(), "std": (2 * STD).tolist()}}, "they differ in std"),
        ({}, "have the same size 48x64"),
    ],
)
def test_other_models_are_refused(folder, changes, message):
    entry = metadata(**changes)
    save_tiny_model(folder / "other.ref.onnx", height=48, width=64, entry=entry)
    with pytest.raises(UserError, match=message):
        Detector(folder)


def test_commands(tmp_path, folder, capsys):
    write_image(tmp_path / "a.png", np.full((40, 30, 3), 200, np.uint8))
    assert main(["detect", str(folder), str(tmp_path / "a.png"), "-o", str(tmp_path / "out")]) == 0
    settings = json.loads((tmp_path / "out" / "run.json").read_text())["settings"]
    assert settings["models"].keys() == {f"{h}x{w}.ref.onnx" for h, w in SIZES}
    assert main(["bench", str(folder)]) == 2
    assert "is a folder; bench takes one model file" in capsys.readouterr().err
