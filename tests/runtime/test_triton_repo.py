"""The files of a model repository; no server is needed."""

import errno
import json
import re
import shutil

import pytest

from runtime.__main__ import main
from runtime.triton.repository import read_network
from tests.runtime.fake_engine import manifest_of, save_engine
from tests.runtime.tiny_model import (
    save_foreign_model,
    save_model_of_any_size,
    save_plugin_model,
    save_tiny_model,
)

BATCH_1_TO_8 = {"min": [1, 3, 48, 64], "opt": [4, 3, 48, 64], "max": [8, 3, 48, 64]}


def io(batch, profile=None, **changes):
    """What the builder says of a detector's inputs and outputs."""
    tensors = {
        "batch_inputs": ("input", "float32", [batch, 3, 48, 64]),
        "img_masks": ("input", "float32", [batch, 48, 64]),
        "boxes": ("output", "float32", [batch, 300, 4]),
        "scores": ("output", "float32", [batch, 300]),
        "labels": ("output", "int64", [batch, 300]),
    } | changes
    return [
        {"name": name, "mode": mode, "dtype": dtype, "shape": shape, "profile": profile}
        for name, (mode, dtype, shape) in tensors.items()
    ]


def engine(folder, tensors, **recipe):
    return save_engine(folder / "m.engine", manifest_of(**recipe) | {"io": tensors})


def triton_repo(*args):
    return main(["triton-repo", *map(str, args)])


def parsed(repository, model):
    """A config.pbtxt as Triton reads it, as a dict."""
    messages = pytest.importorskip("tritonclient.grpc.model_config_pb2")
    from google.protobuf.json_format import MessageToDict
    from google.protobuf.text_format import Parse

    text = (repository / model / "config.pbtxt").read_text()
    message = Parse(text, messages.ModelConfig())
    return MessageToDict(message, preserving_proto_field_name=True)


def contents(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_engine_with_a_dynamic_batch(tmp_path, capsys):
    path = engine(tmp_path, io(-1, BATCH_1_TO_8))
    repository = tmp_path / "a" / "models"
    assert triton_repo(path, "-o", repository) == 0
    assert contents(repository) == [
        "codetr/1/model.py",
        "codetr/config.pbtxt",
        "codetr_network/1/model.plan",
        "codetr_network/config.pbtxt",
    ]
    assert (repository / "codetr_network/1/model.plan").read_bytes() == path.read_bytes()
    assert contents(tmp_path / "a") == [f"models/{name}" for name in contents(repository)]
    printed = capsys.readouterr().out
    assert "up to 8 pictures" in printed
    assert "TensorRT 10.6.0" in printed

    config = parsed(repository, "codetr_network")
    assert config["platform"] == "tensorrt_plan"
    assert config["max_batch_size"] == 8
    assert config["instance_group"] == [{"kind": "KIND_GPU", "count": 1}]
    assert "dynamic_batching" in config
    dims = {one["name"]: (one["data_type"], one["dims"]) for one in config["input"]}
    assert dims == {
        "batch_inputs": ("TYPE_FP32", ["3", "48", "64"]),
        "img_masks": ("TYPE_FP32", ["48", "64"]),
    }
    dims = {one["name"]: (one["data_type"], one["dims"]) for one in config["output"]}
    assert dims == {
        "boxes": ("TYPE_FP32", ["300", "4"]),
        "scores": ("TYPE_FP32", ["300"]),
        "labels": ("TYPE_INT64", ["300"]),
    }
    assert [one["batch_size"] for one in config["model_warmup"]] == [1, 8]
    for warm_up in config["model_warmup"]:
        assert warm_up["inputs"].keys() == {"batch_inputs", "img_masks"}
        assert warm_up["inputs"]["batch_inputs"]["dims"] == ["3", "48", "64"]
    assert parsed(repository, "codetr")["max_batch_size"] == 8


def test_engine_with_a_fixed_batch(tmp_path):
    """Triton takes such an engine only if the batch is one of the dimensions."""
    assert triton_repo(engine(tmp_path, io(2)), "-o", tmp_path / "models") == 0
    config = parsed(tmp_path / "models", "codetr_network")
    assert config.get("max_batch_size", 0) == 0
    assert "dynamic_batching" not in config
    assert config["input"][0]["dims"] == ["2", "3", "48", "64"]
    assert config["output"][0]["dims"] == ["2", "300", "4"]
    [warm_up] = config["model_warmup"]
    assert warm_up["batch_size"] == 1
    assert warm_up["inputs"]["batch_inputs"]["dims"] == ["2", "3", "48", "64"]
    assert parsed(tmp_path / "models", "codetr")["max_batch_size"] == 2


def test_options(tmp_path):
    options = ("--max-batch", "4", "--nms", "hard", "--score-threshold", "0.5", "--instances", "3")
    assert triton_repo(engine(tmp_path, io(-1, BATCH_1_TO_8)), "-o", tmp_path / "m", *options) == 0
    assert parsed(tmp_path / "m", "codetr_network")["max_batch_size"] == 4
    config = parsed(tmp_path / "m", "codetr")
    assert config["max_batch_size"] == 4
    assert config["instance_group"] == [{"kind": "KIND_CPU", "count": 3}]
    values = {name: value["string_value"] for name, value in config["parameters"].items()}
    assert (values["nms"], values["score_threshold"]) == ("hard", "0.5")
    assert json.loads(values["model"])["classes"] == ["cat", "dog", "bird"]


def test_an_existing_folder_is_left_alone(tmp_path, capsys):
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "mine").touch()
    assert triton_repo(engine(tmp_path, io(1)), "-o", tmp_path / "models") == 2
    assert "is there already; remove it" in capsys.readouterr().err
    assert contents(tmp_path / "models") == ["mine"]


def test_an_empty_folder_is_used(tmp_path, monkeypatch):
    path = engine(tmp_path, io(1))
    (tmp_path / "models").mkdir()
    monkeypatch.chdir(tmp_path / "models")
    assert triton_repo(path, "-o", ".") == 0
    assert len(contents(tmp_path / "models")) == 4


def test_a_full_disk_leaves_nothing(tmp_path, monkeypatch, capsys):
    def no_space(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    path = engine(tmp_path, io(1))
    before = sorted(tmp_path.rglob("*"))
    monkeypatch.setattr(shutil, "copyfile", no_space)
    assert triton_repo(path, "-o", tmp_path / "models") == 2
    assert "No space left on device; make room" in capsys.readouterr().err
    assert sorted(tmp_path.rglob("*")) == before


def without_manifest(folder):
    (folder / "m.engine").write_bytes(b"ftrt")
    return folder / "m.engine"


def text_file(folder):
    (folder / "m.txt").touch()
    return folder / "m.txt"


@pytest.mark.parametrize(
    ("make", "options", "message"),
    [
        (lambda f: f / "m.engine", [], "no model file"),
        (text_file, [], "neither .engine nor .onnx"),
        (without_manifest, [], "cannot read .*, the manifest"),
        (lambda f: engine(f, io(1), backend="tensorrt-rtx"), [], "was built by TensorRT-RTX"),
        (lambda f: save_engine(f / "m.engine", manifest_of()), [], "not a Co-DETR engine: 'io'"),
        (
            lambda f: engine(f, io(1, boxes=("output", "float16", [1, 300, 4]))),
            [],
            "its inputs and outputs are",
        ),
        (
            lambda f: engine(f, io(-1, BATCH_1_TO_8 | {"min": [2, 3, 48, 64]})),
            [],
            "takes 2 to 8 pictures.*--batch 1,4,8",
        ),
        (lambda f: engine(f, io(-1, BATCH_1_TO_8)), ["--max-batch", "9"], "takes up to 8 pictures"),
        (lambda f: engine(f, io(2)), ["--max-batch", "1"], "fixed batch of 2"),
        (lambda f: engine(f, io(2)), ["--instances", "0"], "--instances takes a whole number"),
        (lambda f: save_model_of_any_size(f / "m.onnx"), [], "many sizes.*fixed --height and"),
        (lambda f: save_plugin_model(f / "m.onnx"), [], "the plugin's nodes.*reference graph"),
        (lambda f: save_foreign_model(f / "m.onnx", ""), [], "not a Co-DETR model"),
    ],
)
def test_mistakes_are_told_in_one_line(tmp_path, capsys, make, options, message):
    path = make(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    assert triton_repo(path, "-o", tmp_path / "models", *options) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert re.search(message, line), line
    assert sorted(tmp_path.rglob("*")) == before


def test_reference_graph(tmp_path):
    path = save_tiny_model(tmp_path / "model.ref.onnx")
    assert read_network(path).outputs.keys() == {"boxes", "scores", "labels"}
    assert triton_repo(path, "-o", tmp_path / "models") == 0
    assert contents(tmp_path / "models" / "codetr_network") == [
        "1/model.py",
        "1/model.ref.onnx",
        "config.pbtxt",
    ]
    config = parsed(tmp_path / "models", "codetr_network")
    assert (config["backend"], config["max_batch_size"]) == ("python", 1)
    assert config["instance_group"] == [{"kind": "KIND_CPU", "count": 1}]
