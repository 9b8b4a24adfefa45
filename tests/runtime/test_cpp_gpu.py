"""codetr_inference beside the Python runtime, with the same engines. Needs a GPU."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import pytest

from runtime.images import read_image, write_image
from runtime.manifest import manifest_path
from tests.synthetic_images import picture

pytestmark = pytest.mark.gpu

SIZES = [(128, 192), (100, 300), (333, 120), (720, 1280), (64, 64)]
NAMES = [f"{h}x{w}.png" for h, w in SIZES]


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Pictures of several sizes, and a file that is none."""
    folder = tmp_path_factory.mktemp("photos")
    for seed, (name, (h, w)) in enumerate(zip(NAMES, SIZES, strict=True)):
        write_image(folder / name, picture(h, w, seed))
    (folder / "damaged.jpg").write_bytes(b"no picture")
    return folder


@pytest.fixture(scope="module")
def stretching_engine(exported, timing_cache):
    """As ``small_engine``, for two pictures, without mask."""
    options = {"height": 128, "width": 192, "precision": "fp16", "batch": 2, "mask": False}
    files = exported("co_dino_r50_small", stable=True, **options)
    engine = files.plugin.with_suffix(".engine")
    command = [sys.executable, "-m", "trt_build", files.plugin, "-o", engine]
    command += ["--backend", "tensorrt", "--timing-cache", timing_cache]
    subprocess.run([*command, "--optimization-level", "0"], check=True)
    return engine


def by_python(command, *arguments, code=0):
    done = subprocess.run([sys.executable, "-m", "runtime", command, *arguments], check=False)
    assert done.returncode == code


@pytest.mark.parametrize("kind", ["small_engine", "stretching_engine"])
@pytest.mark.parametrize("threshold", ["0", "0.1"])
def test_detections_are_those_of_python(programs, photos, tmp_path, request, kind, threshold):
    engine = request.getfixturevalue(kind)
    arguments = ["--input", photos, "--output", tmp_path / "cpp", "--score-threshold", threshold]
    done = programs.run(programs.inference, "--model", engine, *arguments)
    said = done.stderr.decode()
    assert done.returncode == 2, said  # for the damaged picture
    assert f"error: cannot decode picture {photos / 'damaged.jpg'}: not a picture" in said
    assert f"in {len(NAMES)} of {len(NAMES) + 1} pictures" in done.stdout.decode()
    python = tmp_path / "python"
    by_python("detect", engine, photos, "-o", python, "--score-threshold", threshold, code=2)
    folders = (tmp_path / "cpp", python)
    found, wanted = (json.loads((folder / "detections.json").read_text()) for folder in folders)
    assert found == wanted
    assert len(found["annotations"]) >= (len(NAMES) if threshold == "0" else 0)
    assert sorted(path.name for path in (tmp_path / "cpp").iterdir()) == sorted(
        ["detections.json", *NAMES]
    )
    for name, (h, w) in zip(NAMES, SIZES, strict=True):
        assert read_image(tmp_path / "cpp" / name).shape == (h, w, 3)


def test_latency(programs, small_engine, photos, tmp_path):
    """The kernels take as long as in Python, and the program around them less."""
    image = photos / NAMES[0]
    rows = []
    for run in range(2):  # one before and one after, should clocks change
        file = tmp_path / f"bench{run}.json"
        by_python("bench", small_engine, "--image", image, "--json", file)
        rows += json.loads(file.read_text())["rows"]
        if run == 0:
            times = tmp_path / "times.json"
            arguments = ["--model", small_engine, "--input", image, "--json", times]
            done = programs.run(programs.inference, *arguments, "--benchmark-iterations", 200)
            assert done.returncode == 0, done.stderr
    measured = json.loads(times.read_text())
    parts = ("preprocess", "infer", "postprocess")
    assert measured.keys() == {f"{name}_ms" for name in ("gpu", "end_to_end", *parts)}
    assert "end_to_end" in done.stdout.decode()
    for figures in measured.values():
        assert 0 < figures["min"] <= figures["p50"] <= figures["p90"] <= figures["p99"]
    slowest = max(row["gpu_ms"]["p50"] for row in rows)
    assert measured["gpu_ms"]["p50"] <= 1.05 * slowest
    assert measured["end_to_end_ms"]["p50"] <= max(row["end_to_end_ms"]["p50"] for row in rows)


@pytest.mark.parametrize("option, value", [("height", 128), ("width", 192)])
def test_another_size_is_refused(programs, small_engine, photos, tmp_path, option, value):
    arguments = ["--model", small_engine, "--input", photos, "--output", tmp_path]
    done = programs.run(programs.inference, *arguments, f"--target-{option}", 64)
    assert done.returncode == 2
    wanted = f"the engine takes {value} for --target-{option}, got 64; leave it out, or build"
    assert wanted in done.stderr.decode()


def test_a_damaged_engine_is_told_in_one_line(programs, small_engine, photos, tmp_path):
    engine = tmp_path / "cut.engine"
    engine.write_bytes(small_engine.read_bytes()[:1_000_000])
    shutil.copy(manifest_path(small_engine), manifest_path(engine))
    arguments = ["--model", engine, "--input", photos, "--output", tmp_path / "out"]
    done = programs.run(programs.inference, *arguments)
    assert done.returncode == 2
    *_, said = done.stderr.decode().splitlines()
    assert said.startswith(f"codetr_inference: error: TensorRT cannot load {engine}; build it")
