"""AP of the trained detector: reference graphs in ONNX Runtime against the PyTorch model."""

from __future__ import annotations

import json

import pytest

from benchmarks import accuracy
from benchmarks.gpu import DIGITS
from codetr.training.dataset import write_dataset
from runtime.files import sha256_of

PICTURES, SIZE = 100, (320, 320)
"""Small inputs, or the CPU takes many minutes. Smaller ones still would squeeze pictures to sizes
that the detector was not trained for."""
LIMITS = {"fp32": 0.002, "fp16": 0.002, "bf16": 0.002, "fp8": 0.005}
"""How far AP may be from that of PyTorch in fp32."""


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """What the benchmark stores."""
    work = tmp_path_factory.mktemp("accuracy")
    command = ["--weights", DIGITS, "--work", work, "--results", work / "results"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(accuracy, "SIZE", SIZE)
        write_dataset(work / "pictures", "test", count=PICTURES, seed=accuracy.SEED)
        assert accuracy.main(list(map(str, command))) == 0
    stored = {path.stem: json.loads(path.read_text()) for path in (work / "results").iterdir()}
    return {name: report["rows"][0] for name, report in stored.items()}


def test_the_weights_are_small_enough_for_the_repository():
    assert DIGITS.stat().st_size < 6e6


def test_pytorch_detects_digits(rows):
    row = rows["pytorch-fp32"]
    assert (row["contender"], row["images"]) == ("pytorch-fp32", PICTURES)
    assert (row["height"], row["width"]) == SIZE
    assert row["model_sha256"] == sha256_of(DIGITS)
    assert row["warnings"] == []
    assert row["ap"] > 0.5  # or equal figures would say nothing


@pytest.mark.parametrize("precision", accuracy.PRECISIONS["onnxruntime"])
def test_reference_graph(rows, precision):
    found, wanted = rows[f"onnxruntime-{precision}"], rows["pytorch-fp32"]
    assert (found["contender"], found["images"]) == (f"onnxruntime-{precision}", PICTURES)
    print(f"{precision}: AP {found['ap']:.4f}, PyTorch {wanted['ap']:.4f}")
    assert found["ap"] == pytest.approx(wanted["ap"], abs=LIMITS[precision])


def test_benchmark_without_weights(tmp_path, capsys):
    command = ["--weights", tmp_path / "w.pth", "--work", tmp_path / "work", "--results", tmp_path]
    assert accuracy.main(list(map(str, command))) == 2
    assert "error: no weights at" in capsys.readouterr().err
    assert not (tmp_path / "work").exists()
