"""Models that load and yet make no sense: each was found by damaging a good one."""

import json

import numpy as np
import onnx
import pytest
from onnx import helper

from runtime import Detector
from runtime.backend import ModelMetadata, ModelSpec, TensorInfo, open_model
from runtime.detections import Detections
from runtime.draw import draw_detections
from runtime.errors import UserError
from runtime.images import write_image
from runtime.journal import Journal
from runtime.manifest import manifest_path
from runtime.pipeline import detect_pictures
from runtime.triton.repository import read_network
from tests.runtime.fake_engine import save_engine
from tests.runtime.tiny_model import metadata, save_tiny_model
from tests.security.damage import damaged
from tests.security.manifests import MANIFEST
from tests.trt_build.tiny_models import save_conv
from trt_build import BuildOptions, build_engine, choose_backend, inspect_engine

GREY = np.full((40, 60, 3), 90, np.uint8)


def changed(path, change):
    """A tiny model after ``change(model)``."""
    save_tiny_model(path)
    model = onnx.load(path)
    change(model)
    onnx.save(model, path)
    return path


def node(model, output):
    return next(node for node in model.graph.node if output in node.output)


def replace(model, output, op, inputs, **attributes):
    """Let another node put out what the model puts out."""
    index = list(model.graph.node).index(node(model, output))
    model.graph.node.remove(model.graph.node[index])
    model.graph.node.insert(index, helper.make_node(op, inputs, [output], **attributes))


def infinite(model):
    replace(model, "scores", "Div", ["logits", "nothing"])
    model.graph.node.insert(
        len(model.graph.node) - 4, helper.make_node("Sub", ["logits", "logits"], ["nothing"])
    )


def endless_boxes(model):
    replace(model, "boxes", "Mul", ["endless", "unit_boxes"])
    index = list(model.graph.node).index(node(model, "boxes"))
    model.graph.node.insert(index, helper.make_node("Log", ["no_size"], ["endless"]))
    model.graph.node.insert(index, helper.make_node("Sub", ["sizes", "sizes"], ["no_size"]))


def detections_of(path):
    with Detector(path) as detector:
        return detector(GREY)


def test_the_model_is_good_before(tmp_path):
    """Or what follows proves nothing."""
    assert len(detections_of(save_tiny_model(tmp_path / "m.ref.onnx"))) == 3


def test_labels_without_a_name(tmp_path):
    path = save_tiny_model(tmp_path / "m.ref.onnx", entry=metadata(classes=["cat"]))
    with pytest.raises(UserError, match="puts out labels 0 to 2 for 1 classes"):
        detections_of(path)


@pytest.mark.parametrize("change", [infinite, endless_boxes])
def test_nan_and_infinity(tmp_path, change):
    """Can neither be drawn nor be written as JSON; ``eval`` counts them, see test_eval.py."""
    path = changed(tmp_path / "m.ref.onnx", change)
    write_image(tmp_path / "grey.png", GREY)
    targets = {tmp_path / "grey.png": None}
    with Detector(path) as detector:
        records = detect_pictures(detector, targets, score_threshold=0.3, failed=print)
        with pytest.raises(UserError, match="the model puts out NaN or infinity"):
            list(records)


def test_a_graph_that_fails_when_it_is_run(tmp_path):
    def break_it(model):
        replace(model, "labels", "Reshape", ["no_labels", "seven"])
        model.graph.initializer.append(
            helper.make_tensor("seven", onnx.TensorProto.INT64, [2], [7, 7])
        )

    with pytest.raises(UserError, match=r"cannot run .*m.ref.onnx: ") as error:
        detections_of(changed(tmp_path / "m.ref.onnx", break_it))
    assert "\n" not in str(error.value)


def test_names_that_are_no_text(tmp_path):
    path = save_tiny_model(tmp_path / "m.ref.onnx", batch="batch")
    path.write_bytes(
        path.read_bytes()
        .replace(b"batch\x1a", b"b\xff\xfech\x1a")
        .replace(b"\x05batch", b"\x05b\xff\xfech")
    )
    with pytest.raises(UserError, match="is not a Co-DETR model: 'utf-8' codec"):
        open_model(path)


def test_nothing_but_ours_is_printed(tmp_path, capfd):
    """ONNX Runtime's Python prints to stdout when it tries a second time."""
    path = save_tiny_model(tmp_path / "m.ref.onnx")
    path.write_bytes(damaged(path.read_bytes(), "overwrite", 9))
    with pytest.raises(UserError):
        open_model(path)
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize("size", [(0, 64), (64, 0), (40000, 40000)])
def test_inputs_that_no_memory_holds(size):
    inputs = {"batch_inputs": TensorInfo("float32", (None, 3, *size))}
    with pytest.raises(ValueError, match="none, or too large"):
        ModelSpec.from_tensors(inputs, {}, ModelMetadata.from_json(metadata()))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"classes": []}, "no classes"),
        ({"classes": [1, 2]}, "names that are not text"),
        ({"preset": ["a"]}, "names that are not text"),
        ({"preprocess": {"mean": [1, 2], "std": [1, 1, 1]}}, "other than three values"),
        ({"preprocess": {"mean": [1, 2, 3], "std": [1, 1, 0]}}, "not of pixels"),
        ({"preprocess": {"mean": [1, 2, 1e30], "std": [1, 1, 1]}}, "not of pixels"),
        ({"preprocess": {"mean": [1, 2, float("nan")], "std": [1, 1, 1]}}, "not of pixels"),
        ({"preprocess": {"mean": [1, 2, 10**400], "std": [1, 1, 1]}}, "incomplete"),
    ],
)
def test_metadata_that_makes_no_sense(change, message):
    with pytest.raises(ValueError, match=message):
        ModelMetadata.from_json(metadata(**change))


def test_boxes_beyond_what_can_be_drawn():
    boxes = np.array([[-1e30, -1e30, 1e30, 1e30]], np.float32)
    far = Detections(boxes, np.ones(1, np.float32), np.zeros(1, np.int64), ("cat",))
    assert draw_detections(GREY, far).shape == GREY.shape


# ONNX that TensorRT's parser trusts in


def test_an_input_without_a_shape_does_not_end_the_process(tmp_path):
    path = save_conv(tmp_path / "m.onnx")
    model = onnx.load(path)
    model.graph.input[0].type.tensor_type.ClearField("shape")
    onnx.save(model, path)
    with pytest.raises(UserError, match=r"m.onnx is not a valid ONNX model: .*shape"):
        build_engine(
            path,
            tmp_path / "m.engine",
            backend=choose_backend("tensorrt-rtx"),
            options=BuildOptions(),
        )


# Manifests with the right hash


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"io": []}, "io"),
        ({"io": [MANIFEST["io"][0] | {"profile": {"min": []}}]}, r"io.profile.min"),
        ({"layers": {}}, "layers.source"),
        ({"onnx": {"file": 3}}, "onnx.file"),
        ({"onnx": MANIFEST["onnx"] | {"bytes": "7"}}, "onnx.bytes"),
        ({"build": {"seconds": "1"}}, "build.seconds"),
        ({"recipe": MANIFEST["recipe"] | {"backend": "x"}}, "recipe.backend"),
        ({"recipe": MANIFEST["recipe"] | {"options": {}}}, "recipe.options.compute_capabilities"),
        ({"engine": None}, "is not a manifest of ours"),
    ],
)
def test_incomplete_manifests(tmp_path, change, where):
    engine = save_engine(tmp_path / "m.engine", MANIFEST)
    path = manifest_path(engine)
    whole = json.loads(path.read_text())
    path.write_text(json.dumps(whole | change))
    with pytest.raises(UserError, match=where):
        inspect_engine(engine)


def test_options_that_are_none():
    with pytest.raises(UserError, match="no options of a build"):
        BuildOptions.from_json({"workspace_gib": "much"})


def test_shapes_that_would_be_configuration(tmp_path):
    """They go into Triton's config.pbtxt as they are."""
    tensors = [tensor.copy() for tensor in MANIFEST["io"]]
    tensors[2]["shape"] = [-1, "3 ] } parameters { key: 'x'", 4]
    engine = save_engine(tmp_path / "m.engine", MANIFEST | {"io": tensors})
    with pytest.raises(UserError, match="is not a Co-DETR engine"):
        read_network(engine)


# Journals


@pytest.mark.parametrize(
    "line",
    [
        "3",
        "{}",
        "[]",
        '{"image": ""}',
        '{"image": 3, "detections": []}',
        '{"image": "a", "detections": 3}',
        '{"image": "a", "detections": [3]}',
        '{"image": "a", "detections": [], "output": 3}',
    ],
)
def test_lines_that_are_no_records(tmp_path, line):
    path = tmp_path / "detections.jsonl"
    path.write_text(line + "\n")
    with pytest.raises(UserError, match=r"line 1 of .* is no record of detect"):
        Journal(path, resume=True)
