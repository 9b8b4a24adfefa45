"""``python -m runtime bench`` on the CPU, and its parts that need no GPU."""

import itertools
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from cuda.bindings import nvml

import runtime.gpu_monitor
from runtime import Detector
from runtime.__main__ import main
from runtime.bench_report import histogram, print_report, warnings
from runtime.benchmark import (
    PARTS,
    Measurement,
    detect_in_parts,
    interleave,
    noise_image,
    summarize_times,
)
from runtime.cuda import Gpu
from runtime.gpu_monitor import (
    GpuMonitor,
    GpuState,
    own_memory,
    slowdowns_of,
    summarize_states,
    watch,
)
from runtime.images import write_image
from tests.runtime.tiny_model import save_model_of_any_size, save_tiny_model

ROOT = Path(__file__).parents[2]
FEW = ("--iterations", "5", "--warm-up", "2")
TIMES = {"p50", "p90", "p99", "min", "max", "mean"}
ROW = set(
    "contender model height width batch gpu_ms end_to_end_ms engine_bytes activation_bytes "
    "build_s".split()
)


def bench(*args):
    return main(["bench", *map(str, args)])


def test_json(tmp_path, model):
    out = tmp_path / "new" / "bench.json"
    command = ["bench", str(model), *FEW, "--json", str(out)]
    done = subprocess.run(
        [sys.executable, "-m", "runtime", *command],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    result = json.loads(out.read_text())
    assert result.keys() == {"machine", "command", "rows"}
    assert result["command"] == f"python -m runtime {' '.join(command)}"
    assert result["machine"].keys() == {"cpu", "cpu_count", "python", "onnxruntime"}
    (row,) = result["rows"]
    assert row.keys() == ROW | {"parts_ms"}
    assert row["contender"] == "onnxruntime-fp32"
    assert [row[key] for key in ("model", "height", "width", "batch")] == ["tiny", 48, 64, 1]
    assert row["gpu_ms"] is row["engine_bytes"] is row["activation_bytes"] is row["build_s"] is None
    assert row["parts_ms"].keys() == set(PARTS)
    for times in (row["end_to_end_ms"], *row["parts_ms"].values()):
        assert times.keys() == TIMES
        assert 0 < times["min"] <= times["p50"] <= times["p90"] <= times["p99"] <= times["max"]
    means = [times["mean"] for times in row["parts_ms"].values()]
    assert row["end_to_end_ms"]["mean"] == pytest.approx(sum(means), abs=1e-3)
    assert "postprocess" in done.stdout
    assert done.stderr == ""


def test_a_model_of_any_size_is_measured_at_its_largest_or_at_the_pictures(tmp_path):
    model = save_model_of_any_size(tmp_path / "any.onnx")
    write_image(tmp_path / "wide.png", noise_image(60, 300))
    found = []
    for options in ((), ("--image", tmp_path / "wide.png")):
        assert bench(model, *FEW, "--json", tmp_path / "bench.json", *options) == 0
        (row,) = json.loads((tmp_path / "bench.json").read_text())["rows"]
        found.append((row["height"], row["width"]))
    assert found == [(128, 160), (64, 160)]


def test_the_picture_is_used(tmp_path, model, monkeypatch):
    write_image(tmp_path / "photo.png", np.zeros((20, 30, 3), np.uint8))
    shapes = set()
    original = runtime.benchmark.prepare_batch
    monkeypatch.setattr(
        "runtime.benchmark.prepare_batch",
        lambda images, spec: (
            shapes.update((len(images), *i.shape) for i in images) or original(images, spec)
        ),
    )
    assert bench(model, *FEW, "--image", tmp_path / "photo.png") == 0
    assert shapes == {(1, 20, 30, 3)}
    shapes.clear()
    assert bench(model, *FEW, "--batch", 3) == 0
    assert shapes == {(3, 48, 64, 3)}


def test_parts_are_those_of_the_detector(model):
    image = noise_image(48, 64)
    with Detector(model) as detector:
        found = []
        original = detector.postprocess
        detector.postprocess = lambda *args: found.append(original(*args)) or found[-1]
        assert detect_in_parts(detector, [image]).keys() == set(PARTS)
        ((detections,),) = found
        np.testing.assert_array_equal(detections.boxes, detector(image).boxes)


def test_percentiles():
    times = summarize_times([float(n) for n in range(100, -1, -1)])
    assert times == {"p50": 50, "p90": 90, "p99": 99, "min": 0, "max": 100, "mean": 50}
    assert summarize_times([2.0, 1.0])["p50"] == 1.5
    assert set(summarize_times([3.0]).values()) == {3.0}


def test_contenders_take_turns_and_warm_up_does_not_count():
    calls = []
    clock = itertools.count()

    def run(name):
        calls.append(name)
        return float(next(clock))

    times = interleave({n: lambda n=n: run(n) for n in "ab"}, range(3), warm_up=1)
    assert calls == ["a", "b"] * 3
    assert times == {"a": [2.0, 4.0], "b": [3.0, 5.0]}


def assert_refused(capsys, message):
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("python -m runtime: error: ")
    assert captured.err.count("\n") == 1
    assert message in captured.err


@pytest.mark.parametrize(
    ("option", "value", "smallest"),
    [
        ("--iterations", "0", 1),
        ("--iterations", "-3", 1),
        ("--iterations", "1e3", 1),
        ("--iterations", "²", 1),
        ("--warm-up", "-1", 0),
        ("--warm-up", "x", 0),
        ("--batch", "0", 1),
        ("--batch", "1.5", 1),
    ],
)
def test_wrong_numbers(model, option, value, smallest, capsys):
    assert bench(model, f"{option}={value}") == 2
    assert_refused(capsys, f"{option} takes a whole number from {smallest} up, got {value}")


def test_no_warm_up(model):
    assert bench(model, "--iterations", 1, "--warm-up", 0) == 0


def test_batch_of_a_model_with_a_fixed_one(tmp_path, capsys):
    model = save_tiny_model(tmp_path / "m.onnx", batch=2)
    assert bench(model, *FEW, "--batch", 3) == 2
    assert_refused(capsys, "has a fixed batch of 2, got --batch 3; leave it out")
    assert bench(model, *FEW, "--batch", 2) == 0


def test_json_that_cannot_be_written(tmp_path, model, capsys):
    before = model.read_bytes()
    (tmp_path / "file").touch()
    for out, message in [
        (tmp_path, "it is a folder"),
        (tmp_path / "file" / "b.json", "cannot write"),
        (tmp_path / "." / model.name, "would overwrite an input"),
        (tmp_path / f"{model.name}.json", "would overwrite an input"),
    ]:
        assert bench(model, *FEW, "--json", out) == 2
        assert_refused(capsys, message)
    assert model.read_bytes() == before


def test_nothing_is_written_without_figures(tmp_path, capsys):
    assert bench(tmp_path / "none.onnx", "--json", tmp_path / "b.json") == 2
    assert_refused(capsys, "no model file")
    assert list(tmp_path.iterdir()) == []


def test_missing_picture(tmp_path, model, capsys):
    assert bench(model, "--image", tmp_path / "none.png") == 2
    assert_refused(capsys, "cannot read picture")


def state(**changes):
    figures = {"sm_mhz": 1980, "memory_mhz": 3201, "temperature_c": 50, "power_w": 400.0}
    quiet = {"slowdowns": frozenset(), "other_processes": 0, "process_bytes": None}
    return GpuState(**figures | quiet | changes)


def test_states_of_a_run_become_their_range():
    hot = state(sm_mhz=1755, power_w=None, slowdowns=frozenset({"power cap"}), other_processes=2)
    summary = summarize_states([state(), hot])
    assert summary["samples"] == 2
    assert summary["sm_mhz"] == [1755, 1980]
    assert summary["power_w"] == [400.0, 400.0]
    assert list(warnings(summary)) == [
        "the GPU slowed down during the run: power cap",
        "2 other processes used the GPU during the run",
    ]
    json.dumps(summary)
    assert list(warnings(summarize_states([state()]))) == []


def test_reasons_for_a_slowdown():
    assert slowdowns_of(0x1 | 0x2 | 0x10 | 0x100) == set()  # idle, application clocks, …
    assert slowdowns_of(0x4 | 0x40) == {"power cap", "thermal slowdown by the hardware"}


def test_own_memory():
    assert own_memory([(7, 100), (8, 200)], 8) == 200
    assert own_memory([(7, 100)], 1) == 100  # the only process, by its number outside a container
    assert own_memory([(7, 100), (8, 200)], 1) is None
    assert own_memory([(8, 2**64 - 1)], 8) is None
    assert own_memory([], 8) is None


def test_the_gpu_is_watched_after_the_warm_up():
    events = []

    class Monitor:
        def state(self):
            events.append("state")
            return state()

    states = []
    events.extend(watch(range(9), Monitor(), states, start=3, every=2))
    assert events == [0, 1, 2, "state", 3, 4, "state", 5, 6, "state", 7, 8, "state"]
    assert len(states) == 4


def test_without_nvml_every_answer_is_none():
    monitor = GpuMonitor(Gpu("a GPU", "9.0", "0000:3b:00.0"), None)
    assert monitor.facts()["gpu"] == "a GPU"
    assert monitor.facts()["driver"] is None
    assert summarize_states([monitor.state()])["sm_mhz"] is None


def test_functions_asked_for_are_there():
    source = Path(runtime.gpu_monitor.__file__).read_text()
    names = re.findall(r'"((?:device|system)_get_\w+)"', source)
    assert len(names) > 8
    assert [name for name in names if not hasattr(nvml, name)] == []


def test_histogram():
    line = histogram([1.0] * 80 + [2.0] * 10 + [3.0], bins=3)
    assert line == "1.00 ms █▁▁ 3.00 ms"
    assert "█" in histogram([1.5])


def test_report_of_an_engine(capsys):
    times = summarize_times([1.0, 2.0])
    row = {
        "contender": "engine-fp16",
        "model": "tiny",
        "height": 48,
        "width": 64,
        "batch": 2,
        "gpu_ms": times,
        "gpu_ms_no_cuda_graph": times,
        "cuda_graph": True,
        "end_to_end_ms": times,
        "parts_ms": dict.fromkeys(PARTS, times),
        "engine_bytes": 500_000_000,
        "activation_bytes": 270_000_000,
        "io_bytes": 9_000_000,
        "process_bytes": 1_200_000_000,
    }
    states = [state(), state(sm_mhz=1755, slowdowns=frozenset({"power cap"}))]
    machine = {"gpu": "NVIDIA H200", "max_sm_mhz": 1980, "power_limit_w": 700.0}
    print_report(Measurement(machine | summarize_states(states), row, [1.0, 2.0]))
    out, err = capsys.readouterr()
    assert "NVIDIA H200" in out
    (graph,) = (line for line in out.splitlines() if "GPU, CUDA graph" in line)
    assert "1333.3" in graph  # pictures/s: 2 in 1.5 ms
    assert "engine 500 MB, activations 270 MB, inputs and outputs 9 MB" in out
    assert "holds 1200 MB" in out
    assert "2 samples during the run: SM 1755-1980 of 1980 MHz, memory 3201 MHz, 50 °C" in out
    assert "400 of 700 W" in out
    assert err == "warning: the GPU slowed down during the run: power cap\n"
    assert "CPU preprocessing" not in out


def test_report_of_both_ways_to_preprocess(capsys):
    fast, slow = summarize_times([1.0]), summarize_times([9.0])
    row = dict.fromkeys(("gpu_ms", "engine_bytes")) | {
        **{"contender": "engine-fp16", "model": "tiny", "height": 48, "width": 64, "batch": 1},
        "end_to_end_ms": fast,
        "parts_ms": dict.fromkeys(PARTS[1:], fast),
        "cpu_preprocessing_end_to_end_ms": slow,
        "cpu_preprocessing_parts_ms": dict.fromkeys(PARTS, slow),
    }
    print_report(Measurement({"cpu": "a CPU", "cpu_count": 2}, row, []))
    cells = [line.split("│") for line in capsys.readouterr().out.splitlines()]
    shown = [(line[1].rstrip(), line[2].strip()) for line in cells if len(line) > 2]
    assert shown == [
        (" end to end", "1.00"),
        ("   preprocess, infer", "1.00"),
        ("   postprocess", "1.00"),
        (" CPU preprocessing", "9.00"),
        ("   preprocess", "9.00"),
        ("   infer", "9.00"),
        ("   postprocess", "9.00"),
    ]
