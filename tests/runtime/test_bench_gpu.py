"""``python -m runtime bench`` and the benchmarks of engines. Needs a GPU."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from runtime.manifest import manifest_path
from tests.runtime.test_bench import ROW, TIMES

pytestmark = pytest.mark.gpu

ROOT = Path(__file__).parents[2]
FEW = ("--iterations", "50", "--warm-up", "5")


def run(module, *arguments, code=0):
    command = [sys.executable, "-m", *module.split(), *map(str, arguments)]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=300, check=False, cwd=ROOT
    )
    assert done.returncode == code, done.stderr
    return done


@pytest.fixture(scope="module")
def measured(small_engine, tmp_path_factory):
    """What was printed, and the JSON."""
    out = tmp_path_factory.mktemp("bench") / "bench.json"
    done = run("runtime bench", small_engine, *FEW, "--json", out)
    return done.stdout, json.loads(out.read_text())


def test_row(small_engine, measured):
    _, result = measured
    (row,) = result["rows"]
    assert row.keys() >= ROW
    assert row["contender"] == "engine-fp16"
    assert [row[key] for key in ("model", "batch")] == ["co_dino_r50_small", 1]
    assert row["cuda_graph"] is True
    for times in (row["gpu_ms"], row["gpu_ms_no_cuda_graph"], row["end_to_end_ms"]):
        assert times.keys() == TIMES
        assert 0.05 < times["min"] <= times["p50"] <= times["p90"] <= times["p99"] <= times["max"]
    assert row["gpu_ms"]["p50"] <= row["gpu_ms_no_cuda_graph"]["p50"] * 1.05
    assert row["parts_ms"].keys() == {"infer", "postprocess"}
    assert row["cpu_preprocessing_parts_ms"].keys() == {"preprocess", "infer", "postprocess"}
    for parts in (row["parts_ms"], row["cpu_preprocessing_parts_ms"]):
        assert parts["infer"]["p50"] > row["gpu_ms"]["p50"] * 0.8
    assert row["engine_bytes"] == small_engine.stat().st_size
    assert row["activation_bytes"] > 0
    assert row["io_bytes"] > 8 * 3 * 128 * 192 * 4
    assert row["staging_bytes"] == 2 * 8 * 3 * 128 * 192
    manifest = json.loads(manifest_path(small_engine).read_text())
    assert row["build_s"] == manifest["build"]["seconds"]


def test_machine(measured):
    from runtime.cuda import current_gpu

    _, result = measured
    machine = result["machine"]
    gpu = current_gpu()
    assert machine["gpu"] == gpu.name
    assert machine["compute_capability"] == gpu.compute_capability
    for key in ("driver", "cuda", "tensorrt", "max_sm_mhz", "max_memory_mhz", "power_limit_w"):
        assert machine[key], key
    assert machine["samples"] >= 20
    low, high = machine["sm_mhz"]
    assert 100 < low <= high <= machine["max_sm_mhz"]
    low, high = machine["temperature_c"]
    assert 10 < low <= high < 110
    low, high = machine["power_w"]
    assert 10 < low <= high < 1.5 * machine["power_limit_w"]
    assert "uuid" not in json.dumps(result).lower()
    assert gpu.pci_bus_id.lower() not in json.dumps(result).lower()


def test_table(measured):
    text, _ = measured
    for part in (
        "GPU, CUDA graph",
        "GPU, no graph",
        "preprocess, infer",
        "CPU preprocessing",
        "GPU memory",
        "GPU times",
        "MHz",
    ):
        assert part in text


def test_without_cuda_graph(small_engine, tmp_path):
    out = tmp_path / "b.json"
    done = run("runtime bench", small_engine, *FEW, "--no-cuda-graph", "--json", out, "--batch", 4)
    (row,) = json.loads(out.read_text())["rows"]
    assert row["cuda_graph"] is False
    assert row["gpu_ms"] == row["gpu_ms_no_cuda_graph"]
    assert row["batch"] == 4
    assert "GPU, CUDA graph" not in done.stdout


def test_profile(small_engine, tmp_path):
    out, plot = tmp_path / "b.json", tmp_path / "p.svg"
    done = run("runtime bench", small_engine, *FEW, "--json", out, "--profile", plot)
    assert "the 10 slowest layers" in done.stdout
    assert "<svg" in plot.read_text()
    (row,) = json.loads(out.read_text())["rows"]
    layers = row["profile"]["layers"]
    assert {"backbone", "neck", "encoder", "decoder"} <= {layer["part"] for layer in layers}
    assert {"products", "plugin", "norm"} <= {layer["kind"] for layer in layers}
    assert 0.3 < sum(layer["ms"] for layer in layers) / row["gpu_ms_no_cuda_graph"]["p50"] < 3
    assert row["cuda_graph"] is True  # the profiler is gone before graphs are captured
    if row["profile"]["peaks"]["tflops"]:
        seconds = sum(layer["ms"] for layer in layers) / 1e3
        flops = sum(layer["flops"] for layer in layers)
        assert 1e9 < flops < row["profile"]["peaks"]["tflops"] * 1e12 * seconds


def test_batch_that_the_engine_does_not_take(small_engine):
    done = run("runtime bench", small_engine, "--batch", 9, code=2)
    assert done.stderr.splitlines()[-1].startswith("python -m runtime: error: batch_inputs has to")


def test_script_of_the_published_figures(small_engine, tmp_path):
    out = tmp_path / "engines.json"
    run("benchmarks.engines", small_engine, "--iterations", 20, "--json", out)
    result = json.loads(out.read_text())
    (row,) = result["rows"]
    assert row["gpu_ms"]["p50"] > 0.05
    assert row.keys() >= {"contender", "model", "height", "width", "batch", "engine_bytes"}
    assert result["runs"] == 20
    assert result["machine"]["samples"] > 5


def test_all_contenders_run_side_by_side(small_engine, exported, tmp_path):
    files = exported(
        "co_dino_r50_small", height=128, width=192, precision="fp16", stable=True, batch="dynamic"
    )
    out = tmp_path / "engines.json"
    others = ("--weights", files.weights, "--pytorch", "pytorch-fp16")
    others += ("--onnxruntime", files.reference)
    run("benchmarks.engines", small_engine, *others, "--iterations", 5, "--json", out)
    result = json.loads(out.read_text())
    rows = {row["contender"]: row for row in result["rows"]}
    assert rows.keys() >= {"engine-fp16", "pytorch-fp16"}
    assert rows["pytorch-fp16"]["sampling"] in {"our kernel", "grid_sample"}
    # Where there is no ONNX Runtime for the GPU, it says so.
    assert ("onnxruntime-fp16" in rows) != bool(result["skipped"].get("onnxruntime"))
    for row in rows.values():
        assert 0.05 < row["gpu_ms"]["min"] <= row["gpu_ms"]["p50"]


def test_throughput(small_engine, tmp_path):
    out = tmp_path / "throughput.json"
    run("benchmarks.throughput", small_engine, "--json", out)
    result = json.loads(out.read_text())
    rows = {(row["contexts"], row["batch"]): row for row in result["rows"]}
    assert list(rows) == [(contexts, batch) for contexts in (1, 2) for batch in (1, 2, 4, 8)]
    assert result["machine"]["tensorrt"] and result["machine"]["samples"] == 7
    for (contexts, batch), row in rows.items():
        assert row["built_for"] == [1, 8]
        pictures = contexts * batch
        assert row["pictures_per_s"] == pytest.approx(
            1000 * pictures / row["round_ms"]["p50"], rel=1e-3
        )
        assert row["engine_bytes"] == small_engine.stat().st_size
    # Eight pictures at a time are more a second than one at a time, even on a busy GPU.
    assert rows[1, 8]["pictures_per_s"] > rows[1, 1]["pictures_per_s"]
    one, two = rows[1, 1]["process_bytes"], rows[2, 1]["process_bytes"]
    if one is not None and two is not None:  # not told where others use the GPU from a container
        assert two - one > rows[1, 1]["activation_bytes"]
