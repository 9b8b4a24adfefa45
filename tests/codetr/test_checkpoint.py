"""Weights files: what is read, what is dropped, and what is refused in one line."""

import hashlib
import json
import os
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from codetr.checkpoint import (
    StateMismatchError,
    build_model,
    load_original,
    match_shapes,
    read_checkpoint,
)
from codetr.errors import UserError
from codetr.model import CoDino
from codetr.original_names import expected_shapes, training_only_shapes
from codetr.presets import COCO_CLASSES, PRESETS
from tests.synthetic_checkpoint import GOLDEN

AUXILIARY_HEADS = ("rpn_head.", "roi_head.", "bbox_head.")
TINY = {"a": torch.arange(3.0), "b": torch.ones(2, 2)}
TINY_PRESET = "co_dino_swin_tiny"


def manifest(model):
    shapes = json.loads((GOLDEN / f"manifest_{model}.json").read_text())
    return {key: tuple(shape) for key, shape in shapes.items()}


def requirements(preset):
    """Shapes that have to be there and optional parts, without memory for weights."""
    with torch.device("meta"):
        model = CoDino(PRESETS[preset])
    return expected_shapes(model), training_only_shapes(model.config)


def zeros(shapes):
    """A light state dict: every tensor is one stored number."""
    return {key: torch.zeros(()).expand(shape) for key, shape in shapes.items()}


@pytest.fixture
def refused(tmp_path):
    """Write a file with ``write(path)``; reading it must fail in one line, which is returned."""

    def read(name, write):
        path = tmp_path / name
        write(path)
        with pytest.raises(UserError) as caught:
            read_checkpoint(path)
        message = str(caught.value)
        assert "\n" not in message
        assert name in message
        return message

    return read


# What fits


@pytest.mark.parametrize("model", ["swin_l", "r50", "swin_tiny", "r50_small"])
def test_every_key_of_the_original_is_known(model):
    found = manifest(model)
    expected, optional = requirements(f"co_dino_{model}")
    dropped = match_shapes(model, found, expected, optional)
    assert found.keys() == expected.keys() | set(dropped)
    assert not expected.keys() & set(dropped)


@pytest.mark.parametrize("model", ["swin_l", "r50"])
def test_what_only_training_uses_is_dropped(model):
    dropped = match_shapes(model, manifest(model), *requirements(f"co_dino_{model}"))
    assert len(dropped) == 45
    heads = [key for key in dropped if key.startswith(AUXILIARY_HEADS)]
    labels = [key for key in dropped if "label_embedding" in key]
    assert len(heads) + len(labels) == 33
    rest = set(dropped) - {*heads, *labels}
    assert {key.removeprefix("query_head.").split(".0.")[0].split(".1.")[0] for key in rest} == {
        "downsample",
        "transformer.aux_pos_trans",
        "transformer.aux_pos_trans_norm",
    }


def test_older_name_of_the_label_embedding():
    found = manifest("swin_l")
    shape = found.pop("query_head.dn_generator.label_embedding.weight")
    found["query_head.label_embedding.weight"] = shape
    dropped = match_shapes("old", found, *requirements("co_dino_swin_l"))
    assert "query_head.label_embedding.weight" in dropped


def test_weights_without_training_only_parts_load():
    expected, _ = requirements(TINY_PRESET)
    assert load_original(CoDino(PRESETS[TINY_PRESET]), zeros(expected)) == []


def test_half_precision_weights_become_float32():
    model = CoDino(PRESETS[TINY_PRESET])
    state = {key: tensor.half() + 0.5 for key, tensor in zeros(manifest("swin_tiny")).items()}
    load_original(model, state)
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert all((p == 0.5).all() for p in model.parameters())


# What does not fit


@pytest.mark.parametrize(("model", "step"), [("swin_tiny", 1), ("swin_l", 10), ("r50", 10)])
def test_every_key_is_missed_and_every_shape_is_checked(model, step):
    found = manifest(model)
    expected, optional = requirements(f"co_dino_{model}")
    alone = {key for part in optional if len(part) == 1 for key in part}
    for key, shape in list(found.items())[::step]:
        if key not in alone:  # a part of one tensor may be left out
            error = mismatch({k: s for k, s in found.items() if k != key}, expected, optional)
            assert (error.missing, error.unexpected, error.misshapen) == ([key], [], [])
            assert f"1 missing: {key}" in str(error)
        wrong = (*shape, 1)
        error = mismatch(found | {key: wrong}, expected, optional)
        assert (error.missing, error.unexpected) == ([], [])
        assert error.misshapen == [f"{key} is {wrong}, not {shape}"]
        error = mismatch(found | {f"{key}_": shape}, expected, optional)
        assert (error.missing, error.unexpected, error.misshapen) == ([], [f"{key}_"], [])


def mismatch(found, expected, optional):
    with pytest.raises(StateMismatchError) as caught:
        match_shapes("weights", found, expected, optional)
    assert "\n" not in str(caught.value)
    return caught.value


def test_long_lists_are_cut_in_the_message_only():
    expected, optional = requirements("co_dino_swin_l")
    error = mismatch({"a.weight": (1,)}, expected, optional)
    assert len(error.missing) == len(expected) == 668
    assert "668 missing: " in str(error)
    assert len(str(error)) < 2500


@pytest.mark.parametrize(
    ("found", "preset", "message"),
    [
        (
            manifest("r50"),
            "co_dino_swin_l",
            "it holds ResNet with 3-4-6-3 blocks, 6+6 layers, 900 queries, "
            "not Swin with 192 channels, 2-2-18-2 blocks, 6+6 layers, 900 queries",
        ),
        (manifest("swin_l"), TINY_PRESET, "it holds Swin with 192 channels, 2-2-18-2 blocks"),
        (
            {"conv1.weight": (64, 3, 7, 7), "layer1.0.bn1.weight": (64,), "fc.bias": (1000,)},
            "co_dino_r50",
            "it holds no Co-DINO (top-level names: conv1, fc, layer1), not ResNet with 3-4-6-3",
        ),
    ],
)
def test_another_architecture_is_named(found, preset, message):
    assert message in str(mismatch(found, *requirements(preset)))


@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
def test_weights_that_are_not_numbers_are_refused(value):
    state = zeros(manifest("swin_tiny"))
    key = "query_head.transformer.encoder.layers.1.norms.0.weight"
    state[key] = state[key].clone()
    state[key][7] = value
    with pytest.raises(UserError, match=f"holds NaN or infinity in {key};"):
        load_original(CoDino(PRESETS[TINY_PRESET]), state)


# Files


@pytest.mark.parametrize(
    "content",
    [
        {"state_dict": TINY, "meta": {"dataset_meta": {"classes": ("cat", "dog")}}},
        {"state_dict": TINY, "meta": {"dataset_meta": {"CLASSES": ("cat", "dog")}}},
        {"state_dict": OrderedDict(TINY), "meta": {"CLASSES": ["cat", "dog"], "epoch": 12}},
    ],
)
@pytest.mark.parametrize("zipped", [True, False])
def test_pth(tmp_path, content, zipped):
    path = tmp_path / "w.pth"
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    assert_tiny(read_checkpoint(path), ("cat", "dog"))


@pytest.mark.parametrize("content", [TINY, {"state_dict": TINY}, {"state_dict": TINY, "meta": {}}])
def test_pth_without_class_names(tmp_path, content):
    torch.save(content, tmp_path / "w.pth")
    assert_tiny(read_checkpoint(tmp_path / "w.pth"), None)


@pytest.mark.parametrize(
    ("metadata", "classes"), [(None, None), ({"classes": '["cat", "dog"]'}, ("cat", "dog"))]
)
def test_safetensors(tmp_path, metadata, classes):
    save_file(TINY, tmp_path / "w.safetensors", metadata)
    assert_tiny(read_checkpoint(tmp_path / "w.safetensors"), classes)


def assert_tiny(checkpoint, classes):
    assert checkpoint.state.keys() == TINY.keys()
    assert all(checkpoint.state[key].equal(tensor) for key, tensor in TINY.items())
    assert checkpoint.classes == classes


def test_name_and_hash_are_those_of_the_file(tmp_path):
    torch.save(TINY, tmp_path / "w.pth")
    checkpoint = read_checkpoint(tmp_path / "w.pth")
    assert checkpoint.name == "w.pth"
    assert checkpoint.sha256 == hashlib.sha256((tmp_path / "w.pth").read_bytes()).hexdigest()


@pytest.mark.parametrize("classes", [None, ("cat", "dog", "bird")])
def test_class_names_decide_the_number_of_classes(tmp_path, classes):
    """A fine-tuned checkpoint builds a model of its own classes, any other one of COCO's."""
    names = classes or COCO_CLASSES
    per_class = ("cls_branches", "label_embedding")
    shapes = {
        key: (len(names), *shape[1:]) if any(word in key for word in per_class) else shape
        for key, shape in manifest("swin_tiny").items()
    }
    meta = {"dataset_meta": {"classes": classes}} if classes else {}
    torch.save({"state_dict": zeros(shapes), "meta": meta}, tmp_path / "w.pth")
    model, built = build_model(TINY_PRESET, read_checkpoint(tmp_path / "w.pth"))
    assert built == names
    assert {head.out_features for head in model.cls_branches} == {len(names)}
    assert not model.training


def test_class_names_that_do_not_fit_the_tensors(tmp_path):
    state = zeros(manifest("swin_tiny"))
    torch.save({"state_dict": state, "meta": {"CLASSES": ("cat",)}}, tmp_path / "w.pth")
    with pytest.raises(
        StateMismatchError,
        match=r"w\.pth as preset co_dino_swin_tiny .*\(80, 256\), not \(1, 256\)",
    ):
        build_model(TINY_PRESET, read_checkpoint(tmp_path / "w.pth"))


# Bad files


class Code:
    """Runs a command when it is unpickled."""

    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


class Odd:
    """Nothing that a checkpoint should hold."""


def half(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize("zipped", [True, False])
def test_code_is_named_and_does_not_run(refused, tmp_path, zipped):
    content = {"state_dict": TINY, "hook": Code(f"touch {tmp_path / 'ran'}")}
    message = refused(
        "w.pth", lambda p: torch.save(content, p, _use_new_zipfile_serialization=zipped)
    )
    assert "holds code or objects (posix.system)" in message
    assert not (tmp_path / "ran").exists()


def test_an_object_is_named(refused):
    message = refused("w.pth", lambda p: torch.save({"state_dict": TINY, "x": Odd()}, p))
    assert f"holds code or objects ({__name__}.Odd)" in message


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_damaged_files(refused, suffix):
    def save(path):
        torch.save(TINY, path) if suffix == ".pth" else save_file(TINY, path)

    name = f"w{suffix}"
    assert "no checkpoint at" in refused(name, lambda _: None)
    assert "(0 bytes)" in refused(name, Path.touch)
    assert "not a checkpoint" in refused(name, lambda p: p.write_text("<html>not found</html>\n"))
    assert "truncated" in refused(name, lambda p: (save(p), half(p)))


def test_truncated_legacy_file(refused):
    def write(path):
        torch.save(TINY, path, _use_new_zipfile_serialization=False)
        half(path)

    assert "truncated" in refused("w.pth", write)


@pytest.mark.parametrize(
    "content",
    [
        {},
        [TINY],
        TINY["a"],
        {1: TINY["a"]},
        {"state_dict": {}},
        {"state_dict": [TINY["a"]]},
        {"state_dict": {"a": 3}},
        {"model": TINY},
    ],
)
def test_files_without_a_state_dict(refused, content):
    assert "holds no state dict" in refused("w.pth", lambda p: torch.save(content, p))


@pytest.mark.parametrize("classes", ["cat", [1, 2], {"cat": 0}, [["cat"]], ("cat", None)])
def test_malformed_class_names(refused, classes):
    content = {"state_dict": TINY, "meta": {"CLASSES": classes}}
    message = refused("w.pth", lambda p: torch.save(content, p))
    assert f"class names that are not a list of strings: {classes!r}" in message
    content = {"state_dict": TINY, "meta": {"dataset_meta": {"classes": classes}}}
    assert "class names" in refused("w.pth", lambda p: torch.save(content, p))


@pytest.mark.parametrize("classes", ["cat, dog", '"cat"', "[1]"])
def test_malformed_class_names_in_safetensors(refused, classes):
    message = refused("w.safetensors", lambda p: save_file(TINY, p, {"classes": classes}))
    assert "class names that are not a list of strings" in message
