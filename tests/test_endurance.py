"""``python -m benchmarks.endurance`` on a model that ONNX Runtime runs in a moment."""

from __future__ import annotations

import itertools
import json
import mmap
import signal
import subprocess
import sys

import numpy as np
import onnx
import pytest

from benchmarks import endurance
from benchmarks.bits import has_nan, same_bits
from benchmarks.endurance import PER_THREAD, main
from benchmarks.held_memory import flatness, resident_bytes
from runtime.onnxruntime_backend import OnnxRuntimeModel
from tests.conftest import has_gpu
from tests.runtime.fake_engine import manifest_of, save_engine
from tests.runtime.tiny_model import save_tiny_model

MIB = 1 << 20


@pytest.fixture
def endure(tmp_path):
    """``endure(model, *options)``: exit code and the rows of the JSON by their part."""

    def run(model, *options):
        output = tmp_path / "endurance.json"
        code = main([str(model), "--output", str(output), *map(str, options)])
        rows = json.loads(output.read_text())["rows"]
        return code, {row["part"]: row for row in rows}

    return run


@pytest.fixture
def model(tmp_path):
    return save_tiny_model(tmp_path / "model.ref.onnx")


def with_node(path, op, **attributes):
    """Let the scores go through one more node."""
    model = onnx.load(path)
    for node in model.graph.node:
        node.output[:] = [name if name != "scores" else "clean" for name in node.output]
        node.input[:] = [name if name != "scores" else "clean" for name in node.input]
    model.graph.node.extend(
        [
            onnx.helper.make_node(op, ["clean"], ["other"], **attributes),
            onnx.helper.make_node("Add", ["clean", "other"], ["scores"]),
        ]
    )
    onnx.save(model, path)
    return path


def test_all_parts(endure, model, capsys):
    code, rows = endure(model, "--inferences", 1000, "--threads", 3, "--openings", 100)
    assert code == 0
    assert list(rows) == ["inferences", "threads", "openings"]
    assert [rows[part]["done"] for part in rows] == [1000, 3 * PER_THREAD, 100]
    assert not any(row["different"] or row["nan"] for row in rows.values())
    samples = rows["inferences"]["samples"]
    assert len(samples) == 225  # of 900 after the warm-up, every fourth
    assert samples[0][0] == 104 and samples[-1][0] == 1000
    assert len(rows["openings"]["samples"]) == 10
    for part in ("inferences", "openings"):
        assert rows[part]["rss"]["flat"] and rows[part]["device"] is None
    assert [one["done"] for one in rows["threads"]["threads"]] == 3 * [PER_THREAD]
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("after 180: rss ") for line in lines)
    assert "inferences: 1000 of 1000 in " in lines[-5]
    assert lines[-1].startswith("openings: rss flat: ")


def test_pictures_differ(model):
    """Or a result that belongs to another picture would not be noticed."""
    loaded = OnnxRuntimeModel(model)
    results = [loaded.infer_images([picture]) for picture in endurance.pictures_for(loaded.spec)]
    assert len({(r.boxes.tobytes(), r.scores.tobytes()) for r in results}) == len(results) == 4


def test_other_bits_are_found(endure, model):
    noisy = with_node(model, "RandomNormalLike", scale=1e-5)
    code, rows = endure(noisy, "--inferences", 100, "--threads", 2, "--openings", 0)
    assert code == 1
    # The first of each picture is what the others are compared with.
    assert rows["inferences"]["different"] == rows["inferences"]["done"] - 4
    assert rows["inferences"]["first_different"] == list(range(4, 14))
    # ONNX Runtime's first numbers are the same in every context.
    assert rows["threads"]["different"] == 2 * (PER_THREAD - 4)
    assert not any(row["nan"] for row in rows.values())


def test_contexts_that_differ_are_found(endure, model, monkeypatch):
    other = with_node(save_tiny_model(model.with_name("other.ref.onnx")), "Abs")
    turns = itertools.count(1)

    def open_model(path):
        return OnnxRuntimeModel(path if next(turns) % 3 else other)

    monkeypatch.setattr(endurance, "open_model", open_model)
    code, rows = endure(model, "--inferences", 0, "--threads", 3, "--openings", 40)
    assert code == 1
    wrong = sum(one["different"] > 0 for one in rows["threads"]["threads"])
    assert wrong == 1 and rows["threads"]["different"] == PER_THREAD  # the third that was opened
    assert rows["openings"]["different"] > 0


def test_nan_is_found(endure, model):
    """The same NaN each time is the same bits, and yet no result."""
    parts = ("--inferences", 40, "--threads", 2, "--openings", 5)
    code, rows = endure(with_node(model, "Acosh"), *parts)  # of what is below 1
    assert code == 1
    for row in rows.values():
        assert row["nan"] == row["done"] and not row["different"]
    assert rows["inferences"]["first_nan"] == list(range(10))


def test_a_leak_is_found(endure, model, monkeypatch, capsys):
    kept = []

    class Leaking(OnnxRuntimeModel):
        def infer_images(self, images):
            kept.append(mmap.mmap(-1, MIB // 2))  # not memory that was freed before
            kept[-1].write(b"1" * (MIB // 2))
            return super().infer_images(images)

    monkeypatch.setattr(endurance, "open_model", Leaking)
    code, rows = endure(model, "--inferences", 200, "--threads", 0, "--openings", 0)
    assert code == 1
    rss = rows["inferences"]["rss"]
    assert not rss["flat"]
    assert 60 * MIB < rss["last"] - rss["first"] < 120 * MIB  # 180 after the warm-up, less a tenth
    assert "inferences: rss NOT FLAT: " in capsys.readouterr().out


def test_each_part_ends_when_its_time_is_up(endure, model):
    counts = ("--inferences", 10**9, "--threads", 0, "--openings", 10**9)
    code, rows = endure(model, *counts, "--seconds", 1)
    assert code == 0
    assert all(1 <= row["seconds"] < 10 for row in rows.values())
    assert all(4 < row["done"] < row["asked"] for row in rows.values())


def test_stopped_in_the_first_part_nothing_is_left(endure, model, monkeypatch, tmp_path):
    class Stopping(OnnxRuntimeModel):
        def infer_images(self, images):  # noqa: ARG002
            raise KeyboardInterrupt

    monkeypatch.setattr(endurance, "open_model", Stopping)
    with pytest.raises(FileNotFoundError):
        endure(model)
    assert list(tmp_path.iterdir()) == [model]


def test_ctrl_c_leaves_the_parts_that_are_done(model, tmp_path):
    output = tmp_path / "endurance.json"
    command = [sys.executable, "-m", "benchmarks.endurance", model, "--output", output]
    command += ["--inferences", "100", "--threads", "0", "--openings", "1000000"]
    with subprocess.Popen(command, stdout=-1, stderr=-1, text=True) as process:
        for line in process.stdout:
            if line.startswith("inferences: rss"):
                break
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=20)
    assert process.returncode == 130
    assert errors == "python -m benchmarks.endurance: cancelled\n"
    (row,) = json.loads(output.read_text())["rows"]
    assert row["done"] == 100
    assert sorted(path.name for path in tmp_path.iterdir()) == [output.name, model.name]


@pytest.mark.skipif(has_gpu(), reason="an engine can be opened")
def test_an_engine_without_a_gpu(tmp_path, capsys):
    engine = save_engine(tmp_path / "model.engine", manifest_of())
    assert main([str(engine), "--output", str(tmp_path / "result.json")]) == 2
    assert capsys.readouterr().err.startswith("python -m benchmarks.endurance: error: ")
    assert not (tmp_path / "result.json").exists()


@pytest.mark.gpu
@pytest.mark.alone
def test_an_engine(endure, exported, timing_cache):
    files = exported("co_dino_r50_small", height=128, width=192, precision="fp16", stable=True)
    engine = files.plugin.with_suffix(".engine")
    command = [sys.executable, "-m", "trt_build", files.plugin, "-o", engine]
    subprocess.run([*command, "--timing-cache", timing_cache], check=True)
    code, rows = endure(engine, "--inferences", 1000, "--threads", 8, "--openings", 100)
    assert code == 0, rows
    assert [row["done"] for row in rows.values()] == [1000, 8 * PER_THREAD, 100]
    assert rows["inferences"]["device"]["flat"] and rows["openings"]["device"]["flat"]


def test_output_that_would_overwrite_the_model(model, capsys):
    assert main([str(model), "--output", str(model)]) == 2
    assert "--output" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("values", "flat"),
    [
        ([100] * 20, True),
        ([100] * 10 + [109] * 10, True),
        ([100] * 10 + [111] * 10, False),
        ([100] * 18 + [111, 111], False),
        ([500] * 10 + [100] * 10, True),  # less is no leak
        ([100] * 28 + [100, 999, 100], True),  # one of the last three: the median
        ([100] * 4 + [999] * 5, None),
    ],
)
def test_flat_memory(values, flat):
    found = flatness(values, 10)
    assert (found and found["flat"]) is flat


def test_resident_memory_is_that_of_this_process():
    before = resident_bytes()
    block = mmap.mmap(-1, 64 * MIB)  # an array may take what tests before it left
    np.frombuffer(block, np.uint8)[:] = 1
    assert 63.5 * MIB < resident_bytes() - before < 66 * MIB
    block.close()


def test_bits():
    zeros, nan = np.zeros(2, np.float32), np.full(2, np.nan, np.float32)
    assert same_bits(zeros, zeros.copy()) and same_bits(nan, nan.copy())
    assert not same_bits(zeros, -zeros)
    assert not same_bits(np.array([1, 2]), np.array([1, 3]))
    assert has_nan(nan) and not has_nan(zeros) and not has_nan(np.array([1, 2]))
