"""``python -m onnx_export``: a user's mistake gives one line, exit code 2, and no files."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch

from onnx_export.__main__ import main
from tests.synthetic_checkpoint import state_of, write_checkpoint


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    return write_checkpoint(path, state_of("co_dino_swin_tiny"))


def complaint(capsys, folder: Path, weights: Path, **changed: object) -> str:
    """Run the command with wrong arguments; returns the one line it prints last."""
    options = {
        "preset": "co_dino_swin_tiny",
        "weights": weights,
        "height": 160,
        "width": 224,
        "output": folder / "out" / "model.onnx",
        **changed,
    }
    before = sorted(folder.rglob("*"))
    try:
        code = main([f"--{name}={value}" for name, value in options.items()])
    except SystemExit as stop:  # argparse
        code = int(stop.code or 0)
    assert code == 2
    created = set(folder.rglob("*")) - set(before)
    assert created <= {folder / "out"}, "half-written files"
    lines = capsys.readouterr().err.splitlines()
    assert not any(line.startswith("Traceback") for line in lines)
    return lines[-1]


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"height": 0}, "height is 0"),
        ({"width": -32}, "width is -32"),
        ({"width": 100_000}, "width is 100000"),
        ({"height": 16, "width": 16}, "23 tokens for 100 queries"),
        ({"height": "tall"}, "takes PIXELS or MIN:MAX like 320:1280, got 'tall'"),
        ({"height": "320:"}, "takes PIXELS or MIN:MAX like 320:1280, got '320:'"),
        ({"height": "320:640", "width": 640}, "give two numbers or two ranges"),
        ({"height": "320:650", "width": "320:640"}, "height is 320:650; give the smallest and the"),
        ({"height": "32:64", "width": "32:64"}, "32x32 gives 86 tokens for 100 queries"),
        ({"batch": 0}, "batch is 0"),
        ({"batch": "many"}, "many"),
        ({"preset": "co_dino_swin_xl"}, "invalid choice: 'co_dino_swin_xl'"),
        ({"precision": "int8"}, "invalid choice: 'int8'"),
        ({"kernels": "most"}, "invalid choice: 'most'"),
    ],
)
def test_options(capsys, tmp_path, weights, changed, words):
    assert words in complaint(capsys, tmp_path, weights, **changed)


def test_output_without_suffix(capsys, tmp_path, weights):
    assert ".onnx" in complaint(capsys, tmp_path, weights, output=tmp_path / "model.engine")


def test_output_folder_that_cannot_be_made(capsys, tmp_path, weights):
    (tmp_path / "file").touch()
    line = complaint(capsys, tmp_path, weights, output=tmp_path / "file" / "model.onnx")
    assert "cannot write" in line


def test_weights_missing(capsys, tmp_path):
    missing = tmp_path / "missing.pth"
    assert f"no checkpoint at {missing}" in complaint(capsys, tmp_path, missing)


def test_weights_truncated(capsys, tmp_path):
    torch.save({"state_dict": {"a": torch.zeros(1000)}}, tmp_path / "cut.pth")
    data = (tmp_path / "cut.pth").read_bytes()
    (tmp_path / "cut.pth").write_bytes(data[: len(data) // 2])
    assert "truncated" in complaint(capsys, tmp_path, tmp_path / "cut.pth")


def test_weights_with_code(capsys, tmp_path):
    class Shout:
        def __reduce__(self):
            return Path.touch, (tmp_path / "ran",)

    (tmp_path / "evil.pth").write_bytes(pickle.dumps(Shout()))
    complaint(capsys, tmp_path, tmp_path / "evil.pth")
    assert not (tmp_path / "ran").exists()


def test_weights_of_another_architecture(capsys, tmp_path, weights):
    line = complaint(capsys, tmp_path, weights, preset="co_dino_r50")
    assert "it holds Swin with 32 channels, 2-2-2-2 blocks" in line
