"""The README's tables, from figures as the benchmarks store them."""

from __future__ import annotations

import json

import pytest

from benchmarks.tables import tables


def row(contender, p50, **engine):
    size = {"model": "co_dino_swin_l", "height": 608, "width": 608, "batch": 1}
    return size | {"contender": contender, "gpu_ms": {"p50": p50, "p99": p50 + 1}} | engine


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
    times, _ = tables(folder).split("\n\n")
    head, _, *lines = times.splitlines()
    assert head == "| GPU time in ms, p50 (p99) | Swin-L 608x608 | Swin-L 1280x1920 |"
    assert lines == [
        "| pytorch-fp16 | 24.50 (25.50) | - |",
        "| tensorrt-plain-fp16 | 9.00 (10.00) | - |",
        "| engine-fp16 | 6.00 (7.00) | 24.10 (25.10) |",
    ]


def test_engines_have_their_size_and_accuracy(folder):
    _, engines = tables(folder).split("\n\n")
    assert engines.splitlines()[2:] == [
        "| tensorrt-plain-fp16 | Swin-L 608x608 | 480 MB | 268 MB | 30 s | 50.0% | - |",
        "| engine-fp16 | Swin-L 608x608 | 480 MB | 268 MB | 30 s | 99.1% | 4.2e-03 |",
        "| engine-fp16 | Swin-L 1280x1920 | 480 MB | 268 MB | 30 s | - | - |",
    ]


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
