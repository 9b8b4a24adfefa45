"""Throughput and side-by-side times: what needs no GPU, and mistakes on the command line."""

from __future__ import annotations

import pytest

from benchmarks import engines, onnxruntime_cuda, throughput
from benchmarks.noise import noise
from benchmarks.throughput import Load, batch_range, batches, describe_times
from runtime.errors import UserError
from tests.runtime.fake_engine import manifest_of, save_engine
from tests.runtime.tiny_model import save_tiny_model


def manifest(batch, profile=None):
    shapes = {"batch_inputs": [batch, 3, 608, 608], "img_masks": [batch, 608, 608]}
    profiles = profile or {}
    return {
        "io": [
            {
                "name": name,
                "shape": shape,
                "profile": profile and {key: [n, *shape[1:]] for key, n in profiles.items()},
            }
            for name, shape in reversed(shapes.items())
        ]
    }


def test_batch_of_a_fixed_engine():
    assert batch_range(manifest(4)) == (4, 4)


def test_batches_of_a_dynamic_engine():
    assert batch_range(manifest(-1, {"min": 1, "opt": 4, "max": 8})) == (1, 8)


@pytest.mark.parametrize(
    ("smallest", "largest", "wanted"),
    [(1, 1, [1]), (1, 8, [1, 2, 4, 8]), (2, 7, [2, 4]), (8, 8, [8]), (3, 3, [3]), (5, 7, [7])],
)
def test_batches_are_powers_of_two(smallest, largest, wanted):
    assert batches(smallest, largest) == wanted


def test_two_contexts_do_two_batches_a_round():
    row = describe_times(Load(contexts=2, batch=4), [19.0, 20.0, 30.0])
    assert row["contexts"] == 2
    assert row["round_ms"]["p50"] == 20
    assert row["pictures_per_s"] == 400  # 8 pictures in 20 ms


def test_noise_fills_the_picture_and_is_always_the_same():
    pictures, masks = noise(2, 32, 64)
    assert pictures.shape == (2, 3, 32, 64) and pictures.dtype == "float32"
    assert masks.shape == (2, 32, 64) and not masks.any()
    assert 0.9 < pictures.std() < 1.1
    assert (noise.__wrapped__(2, 32, 64)[0] == pictures).all()


@pytest.mark.parametrize("command", [throughput, engines])
def test_an_engine_that_is_not_there(command, tmp_path, capsys):
    out = tmp_path / "out.json"
    assert command.main([str(tmp_path / "m.engine"), "--json", str(out)]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"python -m {command.__name__}: error: cannot read ")
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", [throughput, engines])
def test_an_engine_of_another_version(command, tmp_path, capsys):
    engine = save_engine(tmp_path / "m.engine", manifest_of(backend_version="8.6.1"))
    assert command.main([str(engine), "--json", str(tmp_path / "out.json")]) == 2
    assert str(engine) in capsys.readouterr().err


def test_no_iterations(tmp_path, capsys):
    command = [str(tmp_path / "m.engine"), "--json", str(tmp_path / "o.json"), "--iterations", "0"]
    assert engines.main(command) == 2
    assert "--iterations takes a whole number from 1 up, got 0" in capsys.readouterr().err


def test_onnxruntime_without_cuda_says_why(tmp_path):
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("ONNX Runtime can compute on a GPU here")
    graph = save_tiny_model(tmp_path / "model.ref.onnx")
    with pytest.raises(UserError, match="one for the CPU alone; pip install onnxruntime-gpu"):
        onnxruntime_cuda.load(graph)
