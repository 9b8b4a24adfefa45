"""The README's tables, from figures as the benchmarks store them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.stored import ORDER
from benchmarks.tables import tables
from tests.stored_figures import save_throughputs

ROOT = Path(__file__).parents[1]
TWO = (("pytorch-fp32", 48.0), ("engine-fp16", 6.0))


def row(contender, p50, **engine):
    size = {"model": "co_dino_swin_l", "height": 608, "width": 608, "batch": 1}
    times = {"p50": p50, "p90": p50 + 0.5, "p99": p50 + 1}
    return size | {"contender": contender, "gpu_ms": times} | engine


@pytest.fixture
def folder(tmp_path):
    engine = {"engine_bytes": 480e6, "activation_bytes": 268e6, "build_s": 29.6}
    small = [row("engine-fp16", 6.0, **engine), row("pytorch-fp16", 24.5)]
    small.append(row("tensorrt-plain-fp16", 9.0, **engine))
    large = [row("engine-fp16", 24.1, **engine) | {"height": 1280, "width": 1920}]
    for name, rows in (("co_dino_swin_l-1280x1920", large), ("co_dino_swin_l-608x608", small)):
        (tmp_path / f"{name}.json").write_text(json.dumps({"rows": rows}))
    found = {
        "detections": {"agreement": 0.991},
        "stages": [{"relative_error": 2e-3}, {"relative_error": 4.2e-3}],
    }
    stem = "verify-co_dino_swin_l-608x608-fp16"
    (tmp_path / f"{stem}.json").write_text(json.dumps(found))
    plain = {"detections": {"agreement": 0.5}, "stages": []}
    (tmp_path / f"{stem}.ref.json").write_text(json.dumps(plain))
    return tmp_path


def test_times_have_a_column_for_each_size_and_a_line_for_each_contender(folder):
    times, *_ = tables(folder).split("\n\n")
    head, _, *lines = times.splitlines()
    assert head == "| GPU time in ms, p50 (p90, p99) | Swin-L 608x608 | Swin-L 1280x1920 |"
    assert lines == [
        "| pytorch-fp16 | 24.50 (25.00, 25.50) | - |",
        "| tensorrt-plain-fp16 | 9.00 (9.50, 10.00) | - |",
        "| engine-fp16 | 6.00 (6.50, 7.00) | 24.10 (24.60, 25.10) |",
    ]


def test_ratios_are_those_of_one_run_and_have_their_aim(folder):
    _, ratios, _ = tables(folder).split("\n\n")
    assert ratios.splitlines()[2:] == [
        "| than pytorch-fp16 | 4.1 times (4.5) | - |",
        "| than tensorrt-plain-fp16 | 1.5 times | - |",
    ]


def test_a_model_without_an_aim(tmp_path):
    rows = [row(name, ms) | {"model": "co_dino_r50"} for name, ms in TWO]
    (tmp_path / "co_dino_r50-608x608.json").write_text(json.dumps({"rows": rows}))
    assert "| than pytorch-fp32 | 8.0 times |" in tables(tmp_path)


def test_who_was_left_out_and_by_what_pytorch_samples(tmp_path):
    rows = [row(name, ms) for name, ms in TWO]
    rows[0]["sampling"] = "our kernel"
    report = {"rows": rows, "skipped": {"onnxruntime": "it is not installed"}}
    for size in ("608x608", "768x1152"):
        (tmp_path / f"co_dino_swin_l-{size}.json").write_text(json.dumps(report))
    times, left_out, *_ = tables(tmp_path).split("\n\n")
    assert "| pytorch-fp32 (our kernel) | 48.00" in times
    assert "| engine-fp16 | 6.00" in times
    assert left_out == "onnxruntime was left out: it is not installed."


def test_engines_have_their_time_size_and_accuracy(folder):
    *_, engines = tables(folder).split("\n\n")
    assert engines.splitlines()[2:] == [
        "| tensorrt-plain-fp16 | Swin-L 608x608 | 9.00 | 480 MB | 268 MB | 30 s | 50.0% | - |",
        "| engine-fp16 | Swin-L 608x608 | 6.00 (4) | 480 MB | 268 MB | 30 s | 99.1% | 4.2e-03 |",
        "| engine-fp16 | Swin-L 1280x1920 | 24.10 (18) | 480 MB | 268 MB | 30 s | - | - |",
    ]


def test_every_contender_has_a_place(tmp_path):
    engine = {"engine_bytes": 480e6, "activation_bytes": 268e6, "build_s": 29.6}
    rows = [row(name, 3.0, **(engine if "engine" in name else {})) for name in reversed(ORDER)]
    (tmp_path / "co_dino_swin_l-608x608.json").write_text(json.dumps({"rows": rows}))
    times, ratios, engines = tables(tmp_path).split("\n\n")
    assert [line.split(" | ")[0] for line in times.splitlines()[2:]] == [f"| {n}" for n in ORDER]
    assert len(ratios.splitlines()) == 2 + len([n for n in ORDER if "engine" not in n])
    assert engines.splitlines()[-1].startswith("| engine-fp8 | Swin-L 608x608 | 3.00 (3.2) |")


def test_throughput_has_a_column_for_each_batch(tmp_path):
    save_throughputs(tmp_path)
    rates, _ = tables(tmp_path).split("\n\n")
    assert rates.splitlines() == [
        "| pictures/s (ms for the batch), p50 | batch 1 | batch 8 |",
        "| --- | --- | --- |",
        "| Swin-L 608x608, engine-fp16 for this batch alone | 200.0 (5.00) | - |",
        "| Swin-L 608x608, engine-fp16 for this batch alone, 2 contexts | 250.0 (8.00) | - |",
        "| Swin-L 608x608, engine-fp16 for a dynamic batch | 160.0 (6.25) | 200.0 (40.00) |",
        "| Swin-L 608x608, engine-fp16 for a dynamic batch, 2 contexts | 200.0 (10.00) "
        "| 250.0 (64.00) |",
    ]


def test_memory_has_a_line_for_each_engine(tmp_path):
    save_throughputs(tmp_path, process_bytes=None)
    _, memory = tables(tmp_path).split("\n\n")
    head = "| engine-fp16 | Swin-L 608x608"
    assert memory.splitlines()[2:] == [
        f"{head} | 1 | 480 MB | 268 MB | 6 MB | 1000 MB | 2000 MB |",
        f"{head} | 1 to 8 | 480 MB | 2144 MB | 48 MB | - | - |",
    ]


@pytest.mark.parametrize("folder", ["h200", "digits"])
def test_readme_has_the_tables_of_the_stored_figures(folder):
    readme = (ROOT / "README.md").read_text()
    for table in tables(ROOT / "benchmarks" / "results" / folder).split("\n\n"):
        assert table in readme


def test_accuracy_has_a_line_for_each_backend_and_a_column_for_each_precision(tmp_path):
    for name, ap in (("pytorch-fp32", 0.71234), ("onnxruntime-fp16", 0.7)):
        figures = {"ap": ap, "ap50": 0.9, "ap75": 0.8, "images": 500, "height": 384, "width": 512}
        (tmp_path / f"{name}.json").write_text(json.dumps({"rows": [figures]}))
    assert tables(tmp_path).splitlines() == [
        "| AP (AP50, AP75), 500 pictures, 384x512 | fp32 | fp16 | bf16 | fp8 |",
        "| --- | --- | --- | --- | --- |",
        "| PyTorch | 0.7123 (0.9000, 0.8000) | - | - | - |",
        "| ONNX Runtime | - | 0.7000 (0.9000, 0.8000) | - | - |",
        "| TensorRT | - | - | - | - |",
    ]
