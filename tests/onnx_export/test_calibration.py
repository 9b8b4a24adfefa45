"""Scales: measured over pictures, kept in a file, and refused where they do not fit."""

from __future__ import annotations

import dataclasses
import json
import math

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from codetr.checkpoint import read_checkpoint
from codetr.errors import UserError
from codetr.model import CoDino
from codetr.presets import PIXEL_MEAN, PIXEL_STD, PRESETS
from onnx_export.__main__ import main
from onnx_export.calibration import (
    Calibration,
    check_calibration,
    measure_scales,
    read_calibration,
)
from onnx_export.pictures import MOST, chosen_pictures, read_inputs
from onnx_export.precision import fp8_products
from runtime.backend import ModelMetadata, ModelSpec
from runtime.images import read_image
from runtime.preprocess import prepare_batch
from tests.synthetic_checkpoint import state_of, write_checkpoint
from tests.synthetic_images import picture

PRESET = "co_dino_swin_tiny"
PRODUCTS = ["a", "b"]
GOOD = Calibration(PRESET, "1234", 64, 64, 2, {"a": 0.5, "b": 2.0})


NO_SCALES = json.dumps({**dataclasses.asdict(GOOD), "scales": [0.5]})


class Pair(nn.Module):
    """Two linear layers, of which the second takes -2 x."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(3, 3, bias=False), nn.Linear(3, 3)
        self.a.weight.data = -2 * torch.eye(3)

    def forward(self, x, mask):
        return self.b(self.a(x)) + mask


def measured(*rows):
    lines: list[str] = []
    inputs = [(torch.tensor([row]), torch.zeros(1)) for row in rows]
    return measure_scales(Pair(), PRODUCTS, inputs, lines.append), lines


def test_scales_are_of_the_largest_absolute_value_of_all_pictures():
    scales, lines = measured([1.0, -448.0, 0.0], [224.0, 0.0, 0.0])
    assert scales == {"a": 1.0, "b": 2.0}
    assert lines == ["calibrating: 1 pictures", "calibrating: 2 pictures"]


@pytest.mark.parametrize("where", [0, 1])
def test_nan_is_not_lost(where):
    rows = [[1.0, 2.0, 3.0], [1.0, 2.0, 3.0]]
    rows[where][1] = math.nan
    assert math.isnan(measured(*rows)[0]["a"])


def test_large_products_are_chosen():
    products = fp8_products(CoDino(PRESETS[PRESET]))
    assert len(products) == 8 * 4 + 2 * 2  # blocks of Swin, layers of the encoder
    assert {name.rpartition(".")[2] for name in products} == {"qkv", "proj", "fc1", "fc2"}
    others = [name for name in products if not name.startswith("backbone.")]
    assert others == [f"encoder.layers.{layer}.ffn.fc{i}" for layer in (0, 1) for i in (1, 2)]


def test_file_gives_back_what_was_written(tmp_path):
    path = tmp_path / "m.scales.json"
    path.write_text(GOOD.to_json())
    assert read_calibration(path) == GOOD
    check_calibration(GOOD, preset=PRESET, weights_sha256="1234", products=PRODUCTS)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"preset": "co_dino_r50"}, "of preset co_dino_r50, not co_dino_swin_tiny"),
        ({"weights_sha256": "99"}, "of weights 99, not 1234"),
        ({"scales": {"a": 0.5}}, r"of other layers \(b and 0 more\)"),
        ({"scales": {"a": 0.5, "b": 0.0}}, "scale of b is 0.0"),
        ({"scales": {"a": -1.0, "b": 1.0}}, "scale of a is -1.0"),
        ({"scales": {"a": math.nan, "b": 1.0}}, "scale of a is nan"),
        ({"scales": {"a": 7e4, "b": 1.0}}, "scale of a is 70000.0"),
        ({"scales": {"a": "1", "b": 1.0}}, "scale of a is 1, not a positive number"),
    ],
)
def test_scales_that_do_not_fit(changed, words):
    odd = dataclasses.replace(GOOD, **changed)
    with pytest.raises(UserError, match=words):
        check_calibration(odd, preset=PRESET, weights_sha256="1234", products=PRODUCTS)


@pytest.mark.parametrize("text", ["", "[]", "{}", NO_SCALES])
def test_a_file_of_something_else(tmp_path, text):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(UserError, match="as a scales file"):
        read_calibration(tmp_path / "x.json")


@pytest.fixture
def folder(tmp_path):
    """Two pictures and a text."""
    for seed, size in enumerate([(90, 150), (130, 50)]):
        cv2.imwrite(str(tmp_path / f"{seed}.png"), picture(*size, seed))
    (tmp_path / "notes.txt").touch()
    return tmp_path


def test_inputs_are_those_of_the_runtime(folder):
    metadata = ModelMetadata(PRESET, "fp8", (), PIXEL_MEAN, PIXEL_STD)
    spec = ModelSpec(96, 128, 1, True, metadata)
    files = chosen_pictures(folder)
    assert [file.name for file in files] == ["0.png", "1.png"]
    for file, (inputs, mask) in zip(files, read_inputs(files, (96, 128)), strict=True):
        wanted = prepare_batch([read_image(file)], spec)
        np.testing.assert_allclose(inputs.numpy(), wanted.batch_inputs, atol=1e-6)
        np.testing.assert_array_equal(mask.numpy(), wanted.img_masks)


def test_many_pictures_are_thinned_out_evenly(tmp_path):
    for number in range(5 * MOST // 2):
        (tmp_path / f"{number:04}.jpg").touch()
    numbers = [int(file.stem) for file in chosen_pictures(tmp_path)]
    assert len(numbers) == MOST
    assert set(np.diff(numbers)) == {2, 3}


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    return write_checkpoint(path, state_of(PRESET))


def refused(capsys, weights, output, *options, preset=PRESET):
    size = ("--height", "160", "--width", "224")
    command = ["--preset", preset, "--weights", weights, *size, "-o", output, *options]
    assert main(list(map(str, command))) == 2
    assert list(output.parent.iterdir()) == []
    return capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--precision", "fp8"], "fp8 needs a calibration: give --calibration a folder"),
        (["--precision", "fp8", "--calibration", "/nowhere"], "no calibration at /nowhere"),
        (["--precision", "fp16", "--calibration", "/"], "fp16 takes no calibration"),
    ],
)
def test_options(capsys, weights, tmp_path, options, words):
    (tmp_path / "out").mkdir()
    assert words in refused(capsys, weights, tmp_path / "out" / "m.onnx", *options)


def test_folders_and_files_that_are_refused(capsys, weights, tmp_path):
    output = tmp_path / "out" / "m.onnx"
    output.parent.mkdir()
    (tmp_path / "pictures").mkdir()
    fp8 = ("--precision", "fp8", "--calibration")
    line = refused(capsys, weights, output, *fp8, tmp_path / "pictures")
    assert "no pictures in folder" in line
    (tmp_path / "pictures" / "broken.png").write_text("no picture")
    line = refused(capsys, weights, output, *fp8, tmp_path / "pictures")
    assert "cannot read picture" in line
    scales = dict.fromkeys(fp8_products(CoDino(PRESETS[PRESET])), 1.0)
    scales["backbone.stages.0.blocks.0.fc1"] = math.nan
    sha256 = read_checkpoint(weights).sha256
    of_these = dataclasses.replace(GOOD, weights_sha256=sha256, scales=scales)
    file = tmp_path / "m.scales.json"
    for calibration, words in ((GOOD, "of weights 1234"), (of_these, "0.blocks.0.fc1 is nan")):
        file.write_text(json.dumps(dataclasses.asdict(calibration)))
        assert words in refused(capsys, weights, output, *fp8, file)
