"""Whatever a file holds, it is read, or refused by an error of ours."""

import json
import math
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from codetr.checkpoint import read_checkpoint
from onnx_export.calibration import Calibration, check_calibration, read_calibration
from runtime.backend import ModelMetadata
from runtime.coco_dataset import read_dataset
from runtime.coco_json import write_coco
from runtime.compatibility import Recipe
from runtime.image_header import picture_size
from runtime.images import MAX_PIXELS, decode_image
from runtime.journal import Journal
from runtime.json_text import to_json
from runtime.manifest import manifest_path
from runtime.run_file import start_run
from runtime.targets import choose_targets
from runtime.triton.repository import read_network, write_repository
from tests.runtime.fake_engine import save_engine
from tests.runtime.tiny_model import metadata
from tests.security.damage import JSON_VALUES, altered_json, damage, damaged
from tests.security.fuzz import EXAMPLES, fuzz, read_or_refused
from tests.security.manifests import CONTENT, MANIFEST
from trt_build.inspection import inspect_engine
from trt_build.options import BuildOptions
from trt_build.pair import read_candidate
from trt_build.report import print_tables

DEEP = b"[" * 100_000
SUFFIXES = (".bmp", ".jpg", ".png", ".tiff", ".webp")
PICTURE = np.random.default_rng(0).integers(0, 256, (24, 32, 3), np.uint8)
STARTS = [cv2.imencode(suffix, PICTURE)[1].tobytes()[:16] for suffix in SUFFIXES] + [
    b"II+\0",
    b"MM\0*",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz")


# Pictures


@pytest.mark.parametrize("suffix", SUFFIXES)
@fuzz
@given(data=st.data())
def test_pictures(suffix, data):
    encoded = data.draw(damage(cv2.imencode(suffix, PICTURE)[1].tobytes()))
    image = read_or_refused(decode_image, encoded, "a")
    if image is not None:
        assert image.dtype == np.uint8
        width, height = picture_size(encoded)
        assert image.shape in {(height, width, 3), (width, height, 3)}  # turned by EXIF


@fuzz
@given(start=st.sampled_from(STARTS), cut=st.integers(0, 16), rest=st.binary(max_size=300))
def test_beginnings_of_pictures(start, cut, rest):
    size = picture_size(start[:cut] + rest)
    assert size is None or min(size) >= 0
    image = read_or_refused(decode_image, start[:cut] + rest, "a")
    assert image is None or image.size <= 3 * MAX_PIXELS


# Checkpoints


@pytest.mark.parametrize("suffix", [".pth", ".safetensors", "legacy"])
@fuzz
@given(data=st.data())
def test_checkpoints(folder, suffix, data):
    path = folder / f"whole{suffix.replace('legacy', '.old.pth')}"
    state = {"a.weight": torch.arange(12.0).reshape(3, 4), "b": torch.ones(2, dtype=torch.float16)}
    if suffix == ".safetensors":
        save_file(state, path, {"classes": json.dumps(["cat", "dog"])})
    else:
        content = {"state_dict": state, "meta": {"CLASSES": ("cat", "dog")}}
        torch.save(content, path, _use_new_zipfile_serialization=suffix == ".pth")
    changed = path.with_name(f"changed{path.suffix}")
    changed.write_bytes(data.draw(damage(path.read_bytes())))
    checkpoint = read_or_refused(read_checkpoint, changed)
    if checkpoint is not None:
        assert all(isinstance(tensor, torch.Tensor) for tensor in checkpoint.state.values())


# Engines and manifests


@fuzz
@given(data=st.data())
def test_engines(folder, data):
    engine = save_engine(folder / "m.engine", MANIFEST, content := b"ftrt" + bytes(range(256)))
    changed = data.draw(damage(content))
    engine.write_bytes(changed)
    manifest = read_or_refused(inspect_engine, engine)
    assert manifest is None or changed == content


def read_all_ways(engine, folder):
    """All that is read of a manifest where no GPU is."""
    read_or_refused(lambda: print_tables(engine, inspect_engine(engine)))
    candidate = read_or_refused(lambda: read_candidate(engine, None, with_stages=True))
    if candidate is not None:
        read_or_refused(BuildOptions.from_json, candidate.recipe["options"])
    network = read_or_refused(read_network, engine)
    if network is not None:
        Recipe.from_manifest(json.loads(manifest_path(engine).read_bytes()), engine)
        for path in (folder / "repository").rglob("*"):
            assert path.is_relative_to(folder)
        read_or_refused(
            lambda: write_repository(network, folder / f"r{len(list(folder.iterdir()))}")
        )


def test_the_manifest_is_good(tmp_path):
    """Or what follows proves nothing."""
    engine = tmp_path / "m.engine"
    engine.write_bytes(CONTENT)
    manifest_path(engine).write_bytes(to_json(MANIFEST))
    assert inspect_engine(engine)["io"] == MANIFEST["io"]
    assert read_candidate(engine, None, with_stages=False).least_batch == 1
    assert read_network(engine).largest_batch == 8


@fuzz
@given(manifest=altered_json(MANIFEST))
def test_manifests(tmp_path_factory, manifest):
    folder = tmp_path_factory.mktemp("engine")
    engine = folder / "m.engine"
    engine.write_bytes(CONTENT)
    manifest_path(engine).write_bytes(to_json(manifest))
    read_all_ways(engine, folder)


@fuzz
@given(data=st.data())
def test_damaged_manifests(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("engine")
    engine = save_engine(folder / "m.engine", MANIFEST, CONTENT)
    path = manifest_path(engine)
    path.write_bytes(data.draw(damage(path.read_bytes())))
    read_all_ways(engine, folder)


# The metadata entry of ONNX files


def check_metadata(text):
    try:
        read = ModelMetadata.from_json(text)
    except ValueError:
        return
    assert read.classes
    assert all(isinstance(name, str) for name in (read.preset, read.precision, *read.classes))
    assert len(read.mean) == len(read.std) == 3
    assert all(math.isfinite(value) for value in read.mean + read.std)
    assert min(read.std) > 0


@fuzz
@given(altered_json(json.loads(metadata())))
def test_metadata(data):
    check_metadata(json.dumps(data))


@fuzz
@given(damage(metadata().encode()))
def test_damaged_metadata(text):
    check_metadata(text.decode("utf-8", "replace"))


# Annotations

COCO = {
    "images": [{"id": 1, "file_name": "1.png", "width": 4, "height": 4}],
    "categories": [{"id": 7, "name": "cat"}],
    "annotations": [
        {"id": 1, "image_id": 1, "category_id": 7, "bbox": [0, 0, 2.5, 2], "area": 5, "iscrowd": 0}
    ],
}


def read_annotations(folder, text):
    (folder / "1.png").touch()
    path = folder / "annotations.json"
    path.write_bytes(text)
    dataset = read_or_refused(read_dataset, path, folder)
    if dataset is not None:
        assert all(math.isfinite(n) for a in dataset.annotations for n in (*a.bbox, a.area))
        read_or_refused(dataset.for_classes, ["cat"])


@fuzz
@given(data=altered_json(COCO))
def test_annotations(folder, data):
    read_annotations(folder, to_json(data))


@fuzz
@given(text=damage(json.dumps(COCO).encode()))
def test_damaged_annotations(folder, text):
    read_annotations(folder, text)


# Scales

SCALES = Calibration("tiny", "0" * 64, 64, 64, 3, {"backbone.qkv": 0.5, "backbone.proj": 0.25})


def read_scales(path, text):
    path.write_bytes(text)
    scales = read_or_refused(read_calibration, path)
    if scales is not None:
        wanted = {"preset": "tiny", "weights_sha256": "0" * 64, "products": list(SCALES.scales)}
        read_or_refused(lambda: check_calibration(scales, **wanted))


@fuzz
@given(data=altered_json(json.loads(SCALES.to_json())))
def test_scales(folder, data):
    read_scales(folder / "s.scales.json", to_json(data))


@fuzz
@given(text=damage(SCALES.to_json().encode()))
def test_damaged_scales(folder, text):
    read_scales(folder / "s.scales.json", text)


# Runs that are resumed

SETTINGS = {"models": {"m.onnx": "0" * 64}, "nms": "soft", "score_threshold": 0.3, "draw": True}
FOUND = {"category_id": 1, "category": "cat", "bbox": [0.0, 0.0, 1.0, 1.0], "score": 0.5}
SIZES = {"width": 4, "height": 4}
RECORDS = [
    {"image": "a.png", **SIZES, "detections": [FOUND], "output": "a.png"},
    {"video": "v.mp4", "frame": 0, "seconds": 0.0, **SIZES, "detections": []},
    {"video": "v.mp4", "frames": 1, "damaged": 0, "dropped": 0, "lost": False, "output": "v.mp4"},
    {"image": "b.png", "error": "cannot read picture b.png"},
]


def resume(folder, settings, journal):
    """What ``detect --resume`` reads and writes."""
    (folder / "run.json").write_bytes(settings)
    read_or_refused(lambda: start_run(folder / "run.json", SETTINGS, resume=True))
    (folder / "detections.jsonl").write_bytes(journal)
    opened = read_or_refused(lambda: Journal(folder / "detections.jsonl", resume=True))
    if opened is not None:
        with opened:
            for target in choose_targets([Path("a.jpg")], folder, opened.outputs).values():
                assert target.parent == folder
            read_or_refused(lambda: write_coco(opened.found(), ["cat"], folder / "out.json"))


def lines(entries):
    return b"".join(to_json(entry) + b"\n" for entry in entries)


@fuzz
@given(run=altered_json({"settings": SETTINGS}), entries=altered_json(RECORDS))
def test_runs(folder, run, entries):
    resume(folder, to_json(run), lines(entries if isinstance(entries, list) else [entries]))


@fuzz
@given(data=st.data())
def test_damaged_runs(folder, data):
    run = data.draw(damage(to_json({"settings": SETTINGS})))
    resume(folder, run, data.draw(damage(lines(RECORDS))))


@pytest.mark.parametrize(
    "read", [read_annotations, lambda f, text: read_scales(f / "s.scales.json", text)]
)
def test_deep_json(tmp_path, read):
    """Python's reader of JSON recurses."""
    read(tmp_path, DEEP)


def test_deep_json_elsewhere(tmp_path):
    resume(tmp_path, DEEP, DEEP + b"\n")
    engine = save_engine(tmp_path / "m.engine", MANIFEST)
    manifest_path(engine).write_bytes(DEEP)
    assert read_or_refused(inspect_engine, engine) is None
    with pytest.raises(ValueError, match="nested too deeply"):
        ModelMetadata.from_json(DEEP.decode())


# The means


def test_damage_is_damage_and_the_same_every_time():
    data = bytes(range(256))
    for kind in ("flip", "cut", "overwrite"):
        changed = [damaged(data, kind, seed) for seed in range(50)]
        assert changed == [damaged(data, kind, seed) for seed in range(50)]
        assert len(set(changed)) > 40


@given(JSON_VALUES)
@fuzz
def test_values_can_be_written(value):
    assert to_json(value)
    assert EXAMPLES > 0
