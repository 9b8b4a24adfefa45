import numpy as np
import pytest

from runtime import Detections, Detector, UserError
from runtime.backend import open_model
from runtime.images import write_image
from tests.runtime.tiny_model import (
    CLASSES,
    UNIT_BOXES,
    expected_scores,
    save_model_of_any_size,
    save_tiny_model,
)

RGB = (200, 110, 60)  # scores fall from class to class


def plain(height, width, rgb=RGB):
    return np.full((height, width, 3), rgb, np.uint8)


def assert_detects(detections, height, width, rgb=RGB):
    """The tiny model's boxes in the original picture, its scores from normalised RGB."""
    assert isinstance(detections, Detections)
    assert detections.classes == CLASSES
    assert detections.labels.tolist() == [0, 1, 2]
    np.testing.assert_allclose(detections.scores, expected_scores(rgb), rtol=1e-5)
    expected = UNIT_BOXES * [width, height, width, height]
    np.testing.assert_allclose(detections.boxes, expected, rtol=1e-5)


@pytest.mark.parametrize("mask", [True, False])
@pytest.mark.parametrize("size", [(48, 64), (100, 200), (333, 77), (1, 1), (10000, 100)])
def test_one_picture(tmp_path, size, mask):
    with Detector(save_tiny_model(tmp_path / "m.onnx", mask=mask)) as detector:
        assert_detects(detector(plain(*size)), *size)


@pytest.mark.parametrize("batch", ["batch", 1, 2, 4])
@pytest.mark.parametrize("count", [0, 1, 2, 3, 5])
def test_lists(tmp_path, batch, count):
    sizes = [(100, 200), (50, 40), (64, 64), (7, 300), (48, 64)][:count]
    colours = [(200, 110, 60 - 5 * i) for i in range(count)]
    with Detector(save_tiny_model(tmp_path / "m.onnx", batch=batch), max_batch=3) as detector:
        found = detector([plain(*s, c) for s, c in zip(sizes, colours, strict=True)])
    assert len(found) == count
    for detections, size, colour in zip(found, sizes, colours, strict=True):
        assert_detects(detections, *size, colour)


@pytest.mark.parametrize("batch", ["batch", 1, 3])
def test_inputs_of_any_size(tmp_path, batch):
    sizes = [(100, 200), (50, 40), (64, 64), (7, 300), (3000, 20), (1, 1), (128, 160)]
    with Detector(
        save_model_of_any_size(tmp_path / "m.onnx", batch=batch), max_batch=2
    ) as detector:
        for size in sizes:
            assert_detects(detector(plain(*size)), *size)
        for found, size in zip(detector([plain(*size) for size in sizes]), sizes, strict=True):
            assert_detects(found, *size)


def test_a_size_that_is_out_of_range_has_no_padding_without_end(tmp_path):
    detector = Detector(save_model_of_any_size(tmp_path / "m.onnx"))
    shapes = []
    infer = detector.model.infer
    detector.model.infer = lambda x, m: shapes.append(x.shape[2:]) or infer(x, m)
    for size in [(4000, 4000), (30, 3000), (5, 5), (128, 100)]:
        detector(plain(*size))
    assert shapes == [(128, 128), (64, 160), (128, 128), (128, 128)]


def test_batches_are_as_large_as_the_model_allows(tmp_path):
    for batch, expected in [("batch", 3), (1, 1), (4, 4)]:
        detector = Detector(save_tiny_model(tmp_path / "m.onnx", batch=batch), max_batch=3)
        sizes = []
        infer = detector.model.infer
        detector.model.infer = lambda x, m, infer=infer, sizes=sizes: (
            sizes.append(len(x)) or infer(x, m)
        )
        detector([plain(8, 8)] * 5)
        assert detector.batch == expected
        assert sizes == {3: [3, 2], 1: [1] * 5, 4: [4, 4]}[expected]


def test_nms_mode_is_used(tmp_path):
    path = save_tiny_model(tmp_path / "m.onnx")
    image = plain(48, 64, (60, 110, 200))  # scores rise from class to class
    with Detector(path) as soft, Detector(path, nms="none") as none:
        assert soft(image).labels.tolist() == [2, 1, 0]
        assert none(image).labels.tolist() == [0, 1, 2]
    with pytest.raises(UserError, match="nms must be one of soft, hard, none, got 'fast'"):
        Detector(path, nms="fast")


def test_wrong_pictures(tmp_path):
    with Detector(save_tiny_model(tmp_path / "m.onnx")) as detector:
        with pytest.raises(UserError, match=r"got float32 \(4, 4, 3\)"):
            detector(np.zeros((4, 4, 3), np.float32))
        with pytest.raises(UserError, match=r"got uint8 \(4, 4\)"):
            detector([plain(4, 4), plain(4, 4)[..., 0]])


def test_closed_at_the_end_of_with(tmp_path):
    with Detector(save_tiny_model(tmp_path / "m.onnx")) as detector:
        pass
    with pytest.raises(RuntimeError, match="closed"):
        detector(plain(4, 4))


def test_a_loaded_model_is_closed_with_the_detector(tmp_path):
    model = open_model(save_tiny_model(tmp_path / "m.onnx"))
    with Detector(model, max_batch=3) as detector:
        assert detector.model is model
        assert len(detector(np.zeros((30, 40, 3), np.uint8))) == 3
    with pytest.raises(RuntimeError, match="closed"):
        model.infer(np.zeros((1, 3, 48, 64), np.float32), np.zeros((1, 48, 64), np.float32))


def test_paths(tmp_path):
    path = tmp_path / "a.png"
    write_image(path, plain(30, 50))
    with Detector(save_tiny_model(tmp_path / "m.onnx")) as detector:
        assert_detects(detector(path), 30, 50)
        assert_detects(detector(str(path)), 30, 50)
        for detections in detector([path, plain(30, 50), str(path)]):
            assert_detects(detections, 30, 50)
        with pytest.raises(UserError, match="No such file"):
            detector("none.png")


@pytest.mark.parametrize("batch", ["batch", 2])
def test_stream_of_pictures(tmp_path, batch):
    sizes = [(20 + n, 50) for n in range(11)]
    taken = []

    def pictures():
        for size in sizes:
            taken.append(size)
            yield plain(*size)

    with Detector(save_tiny_model(tmp_path / "m.onnx", batch=batch), max_batch=3) as detector:
        stream = detector.stream(pictures())
        image, detections = next(stream)
        assert image.shape[:2] == sizes[0]
        assert_detects(detections, *sizes[0])
        for size, (_, detections) in zip(sizes[1:], stream, strict=True):
            assert_detects(detections, *size)


def test_stream_does_not_take_everything_at_once(tmp_path):
    taken = []

    def endless():
        while True:
            taken.append(1)
            yield plain(8, 8)

    with Detector(save_tiny_model(tmp_path / "m.onnx")) as detector:
        stream = detector.stream(endless())
        for _ in range(5):
            next(stream)
        stream.close()
        assert len(taken) < 20


def test_error_in_a_stream_comes_where_its_result_is_due(tmp_path):
    with Detector(save_tiny_model(tmp_path / "m.onnx")) as detector:
        stream = detector.stream([plain(8, 8), plain(8, 8), "none.png"])
        next(stream)
        next(stream)
        with pytest.raises(UserError, match="No such file"):
            next(stream)
