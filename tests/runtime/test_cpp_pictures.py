"""The parts of the C++ program that need no GPU, against the Python runtime's."""

import hashlib
import json
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest

from runtime.backend import ModelMetadata, ModelSpec
from runtime.coco_json import write_coco
from runtime.detections import Detections
from runtime.draw import class_colour, draw_detections
from runtime.errors import UserError
from runtime.images import read_image
from runtime.postprocess import nms, rescale_boxes
from runtime.preprocess import prepare_batch
from runtime.sources import picture_files
from runtime.targets import choose_targets

GOLDEN = Path(__file__).parents[1] / "data" / "golden"
CLASSES = ("person", "Zürich", 'say "a\\b"', "dog", "四", "tab\there")
METADATA = {
    "preset": "co_dino_r50_small",
    "precision": "fp16",
    "classes": CLASSES,
    "preprocess": {"mean": [123.675, 116.28, 103.53], "std": [58.395, 57.12, 57.375]},
}
RECIPE = {"backend": "tensorrt", "backend_version": "10.6.0.post1", "gpu": None}
MANIFEST = {
    "manifest_version": 1,
    "engine": {"file": "m.engine", "sha256": hashlib.sha256().hexdigest(), "bytes": 12345678901},
    "recipe": RECIPE | {"options": {"version_compatible": True, "batch": None}},
    "model": METADATA,
    "io": [{"shape": [1, 3, 8, 8], "profile": None}, {}],
    "layers": {"types": {}, "seconds": 1e-05},
}


def write_engine(folder, **changes):
    """An engine, as far as its manifest goes; returns its path."""
    engine = folder / "m.engine"
    engine.touch()
    text = json.dumps(MANIFEST | changes, indent=2, ensure_ascii=False)  # as trt_build writes it
    Path(f"{engine}.json").write_text(text, encoding="utf-8")
    return engine


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    return write_engine(tmp_path_factory.mktemp("engine"))


@pytest.fixture
def check(programs):
    """Runs a command of the check program; returns its output."""

    def run(*arguments, data=b""):
        done = programs.run(programs.check, *arguments, data=data)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.fixture
def error(programs):
    """Runs a command that fails; returns what it says."""

    def run(*arguments):
        done = programs.run(programs.check, *arguments)
        assert (done.returncode, done.stdout) == (2, b"")
        return done.stderr.decode().removesuffix("\n")

    return run


def ints(*values):
    return np.array(values, np.int32).tobytes()


def bgr_bytes(image):
    return ints(*image.shape[:2]) + np.ascontiguousarray(image[..., ::-1]).tobytes()


def case_bytes(boxes, scores, labels, scale):
    numbers = ints(len(scores)) + np.array(scale, np.float64).tobytes()
    return numbers + b"".join(array.tobytes() for array in (boxes, scores, labels.astype(np.int64)))


def noise(rng, h, w):
    """A picture with edges and with flat parts."""
    image = rng.integers(0, 256, (h, w, 3), np.uint8)
    image[: h // 2] = cv2.blur(image, (5, 5))[: h // 2]
    return image


def random_case(rng):
    """Outputs of a model, (N, 4), (N,), (N,), with many overlaps and equal scores, and a scale."""
    n = int(rng.integers(1, 301))
    corners = rng.choice([8, 50, 300]) * rng.random((n, 2)) + rng.random((n, 2))
    sizes = rng.choice([0, 20, 100]) + 4 * rng.random((n, 2))
    boxes = np.concatenate([corners, corners + sizes], 1).astype(np.float32)
    boxes[rng.random(n) < 0.2] = boxes[0]
    scores = (rng.random(n) ** rng.choice([1, 6])).astype(np.float32)
    if rng.random() < 0.5:
        scores = scores.round(1)
    labels = rng.integers(0, rng.choice([1, 3, len(CLASSES)]), n)
    return boxes, np.sort(scores)[::-1].copy(), labels, tuple(0.1 + 3 * rng.random(2))


def wanted_detections(boxes, scores, labels, scale):
    boxes = rescale_boxes(boxes, scale)
    kept, scores = nms(boxes, scores, labels, mode="soft")
    return Detections(boxes[kept], scores, labels[kept], CLASSES)


@pytest.mark.parametrize("size", [0, 1, 55, 56, 63, 64, 65, 119, 120, 1000, 2**20 + 3])
def test_sha256(check, tmp_path, size):
    file = tmp_path / "file"
    file.write_bytes(np.random.default_rng(size).bytes(size))
    assert check("sha256", file).decode() == hashlib.sha256(file.read_bytes()).hexdigest()


def test_manifest(check, engine):
    output = check("manifest", engine)
    numbers, (compatible,) = np.frombuffer(output, np.float32, 6), np.frombuffer(output[24:28], "i")
    assert compatible == 1
    wanted = np.array([*METADATA["preprocess"]["mean"], *METADATA["preprocess"]["std"]], np.float32)
    np.testing.assert_array_equal(numbers, wanted)
    assert output[28:].decode().splitlines() == [*CLASSES, RECIPE["backend_version"]]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"manifest_version": 7}, "has version 7, this program reads 1"),
        ({"recipe": RECIPE}, "has no entry options"),
        ({"model": None}, "has no entry model"),
        ({"model": {"preset": "a"}}, "has no entry preprocess"),
        ({"recipe": RECIPE | {"backend": "tensorrt-rtx"}}, "is of an engine of tensorrt-rtx"),
    ],
)
def test_manifests_that_are_refused(error, tmp_path, changes, message):
    engine = write_engine(tmp_path, **changes)
    said = error("manifest", engine)
    assert said.startswith(f"{engine}.json {message}")
    assert said.endswith("; build the engine again")


def test_files_that_are_no_manifests(error, tmp_path):
    engine = write_engine(tmp_path)
    path = Path(f"{engine}.json")
    for text in ("", "no JSON", '{"manifest_version": 1', "[1, 2]"):
        path.write_text(text)
        assert error("manifest", engine).startswith(f"{path} "), text
    path.unlink()
    assert error("manifest", engine).startswith(f"found no {path}, the manifest of {engine}; keep")
    engine.unlink()
    assert error("manifest", engine) == f"no model file {engine}; give an engine"


@pytest.mark.parametrize("has_mask", [True, False])
@pytest.mark.parametrize("height, width", [(96, 160), (320, 64), (127, 255)])
def test_preprocessing_is_bit_equal(check, engine, height, width, has_mask):
    spec = ModelSpec(height, width, 1, has_mask, ModelMetadata.from_json(json.dumps(METADATA)))
    rng = np.random.default_rng(height)
    sizes = [(height, width), (1, 1), (3, 900), (700, 2), *rng.integers(1, 700, (4, 2)).tolist()]
    for h, w in sizes:
        image = noise(rng, h, w)
        data = ints(height, width, has_mask) + bgr_bytes(image)
        output = np.frombuffer(check("preprocess", engine, data=data), np.uint8)
        pixels = height * width
        inputs = output[: 12 * pixels].view(np.float32).reshape(1, 3, height, width)
        masks = output[12 * pixels : 16 * pixels].view(np.float32).reshape(1, height, width)
        wanted = prepare_batch([image], spec)
        np.testing.assert_array_equal(inputs, wanted.batch_inputs)
        np.testing.assert_array_equal(masks, wanted.img_masks if has_mask else 99)
        assert tuple(output[16 * pixels :].view(np.float64)) == wanted.scales[0]


def read_detections(output):
    """(boxes, scores, labels) of one case, and the rest of the output."""
    (n,) = np.frombuffer(output[:4], np.int32)
    ends = 4 + n * np.cumsum([0, 16, 4, 8])
    parts = [output[start:end] for start, end in pairwise(ends)]
    boxes = np.frombuffer(parts[0], np.float32).reshape(n, 4)
    scores, labels = np.frombuffer(parts[1], np.float32), np.frombuffer(parts[2], np.int64)
    return (boxes, scores, labels), output[ends[-1] :]


def test_postprocessing_is_bit_equal(check):
    rng = np.random.default_rng(1)
    cases = [random_case(rng) for _ in range(300)]
    at_the_threshold = np.array([[0, 0, 10, 10], [0, 0, 8, 10]], np.float32)  # IoU 0.8
    cases.append((at_the_threshold, np.array([0.9, 0.8], np.float32), np.zeros(2, int), (1, 1)))
    output = check("detections", data=ints(len(cases)) + b"".join(case_bytes(*c) for c in cases))
    fewer = 0
    for case in cases:
        (boxes, scores, labels), output = read_detections(output)
        wanted = wanted_detections(*case)
        np.testing.assert_array_equal(scores, wanted.scores)
        np.testing.assert_array_equal(labels, wanted.labels)
        np.testing.assert_array_equal(boxes, wanted.boxes)
        fewer += len(scores) < len(case[1])
    assert not output
    assert fewer > 50  # the cases do suppress


@pytest.mark.parametrize("unit", ["u0", "u1"])
def test_soft_nms_is_bit_equal_to_mmcv(check, unit):
    golden = np.load(GOLDEN / "softnms_unit.npz")
    arrays = [golden[f"{unit}_{name}"] for name in ("boxes", "scores", "labels")]
    output = check("detections", data=ints(1) + case_bytes(*arrays, (1, 1)))
    (boxes, scores, labels), _ = read_detections(output)
    np.testing.assert_array_equal(np.column_stack([boxes, scores]), golden[f"{unit}_dets"])
    np.testing.assert_array_equal(labels, golden[f"{unit}_labels"][golden[f"{unit}_keep"]])


@pytest.mark.parametrize("threshold", [0, 0.3])
def test_json(check, engine, tmp_path, threshold):
    case = random_case(np.random.default_rng(5))
    case[0][:2] = [[0.125, 0.375, 8.5, 9.25], [700.625, 700.875, 710, 720]]  # halves, rounded
    case[1][:2] = 0.3  # the threshold itself, as float32
    case = *case[:3], (1, 1)
    data = np.float32(threshold).tobytes() + case_bytes(*case)
    name = 'a "quoted"\\\nname ü.png'
    found = json.loads(check("coco", engine, name, data=data))
    records = wanted_detections(*case).above(threshold).records()
    assert records
    pictures = [{"image": name, "width": 640, "height": 480, "detections": records}]
    pictures += [{"image": "empty", "width": 1, "height": 2, "detections": []}]
    write_coco(pictures, CLASSES, tmp_path / "wanted.json")
    assert found == json.loads((tmp_path / "wanted.json").read_text())


def test_drawing(check, engine):
    """Boxes are the same pixels; texts look otherwise where the OpenCVs have other fonts."""
    rng = np.random.default_rng(2)
    image = noise(rng, 720, 900)
    labels = np.arange(len(CLASSES))
    corners = 110 * labels[:, None] + 40 + 5 * rng.random((len(labels), 2))
    boxes = np.concatenate([corners, corners + 75.5], 1).astype(np.float32)
    scores = np.linspace(0.9, 0.4, len(labels)).astype(np.float32)
    data = bgr_bytes(image) + case_bytes(boxes, scores, labels, (1, 1))
    output = check("drawn", engine, data=data)
    drawn = np.frombuffer(output, np.uint8).reshape(image.shape)[..., ::-1]
    wanted = draw_detections(image, wanted_detections(boxes, scores, labels, (1, 1)))
    for label, (x1, y1, x2, y2) in enumerate(boxes.round().astype(int)):
        below_text = slice(y1 + 2, y2 + 3), slice(x1 - 3, x2 + 4)
        np.testing.assert_array_equal(drawn[below_text], wanted[below_text])
        assert tuple(drawn[y2 - 5, x1]) == class_colour(label)
    near = (np.abs(drawn.astype(int) - wanted) < 8).all(-1)
    assert near.mean() > 0.97


def test_decoding(check, tmp_path):
    rng = np.random.default_rng(3)
    image = noise(rng, 40, 60)
    for name, picture in {
        "colour.png": image,
        "grey.png": image[..., 0],
        "alpha.png": np.dstack([image, image[..., :1]]),
        "deep.png": image.astype(np.uint16) * 257,
        "colour.bmp": image,
    }.items():
        path = tmp_path / name
        assert cv2.imwrite(str(path), picture)
        output = check("decoded", path)
        h, w = np.frombuffer(output[:8], np.int32)
        decoded = np.frombuffer(output[8:], np.uint8).reshape(h, w, 3)[..., ::-1]
        np.testing.assert_array_equal(decoded, read_image(path))


def test_files_that_are_no_pictures(error, tmp_path):
    whole = cv2.imencode(".jpg", noise(np.random.default_rng(4), 64, 64))[1].tobytes()
    for name, content in {"empty.png": b"", "text.png": b"text", "cut.jpg": whole[:900]}.items():
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(UserError):
            read_image(path)
        said = error("decoded", path)
        assert str(path) in said
        assert "\n" not in said
    assert error("decoded", tmp_path / "none.png").endswith("none.png: No such file or directory")
    assert error("decoded", tmp_path).endswith(": it is no file")
    (tmp_path / "folder").mkdir()
    said = error("targets", tmp_path / "folder", tmp_path)
    assert said.startswith(f"no pictures in folder {tmp_path / 'folder'}; looked for files named")


def test_targets(check, tmp_path):
    for name in ("b.jpg", "a.PNG", "a.jpeg", "a.png", ".hidden.png", "text.txt", "ü.webp"):
        (tmp_path / name).touch()
    pictures = picture_files([tmp_path])
    for folder in (tmp_path, tmp_path / "out"):
        lines = check("targets", tmp_path, folder).decode().splitlines()
        found = dict(map(Path, line.split("\t")) for line in lines)
        assert list(found) == pictures
        if folder != tmp_path:
            assert found == choose_targets(pictures, folder, {})
        assert len(set(found.values())) == len(pictures)
        assert not set(found.values()) & set(pictures)
