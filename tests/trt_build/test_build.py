"""Real TensorRT-RTX builds of tiny graphs: the engine, its manifest, and when it is reused."""

import hashlib
import json

import pytest

from runtime.errors import UserError
from runtime.manifest import manifest_path, read_manifest
from tests.trt_build.tiny_models import CHANNELS, METADATA, SIZE, save_conv, save_model
from trt_build import BuildOptions, build_engine, choose_backend

pytest.importorskip("tensorrt_rtx")
RTX = choose_backend("tensorrt-rtx")


def build(onnx, engine, *, force=False, **options):
    return build_engine(onnx, engine, backend=RTX, options=BuildOptions(**options), force=force)


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_manifest_describes_onnx_engine_and_build(tmp_path):
    onnx, engine = save_conv(tmp_path / "m.ref.onnx"), tmp_path / "out" / "m.engine"
    result = build(onnx, engine, workspace_gib=1.5, optimization_level=2)

    assert engine.read_bytes().startswith(b"vtrt")
    assert {file.name for file in engine.parent.iterdir()} == {"m.engine", "m.engine.json"}
    manifest = json.loads((tmp_path / "out" / "m.engine.json").read_text())
    assert manifest == result.manifest == read_manifest(engine)
    assert manifest["engine"] == {
        "file": "m.engine",
        "sha256": sha256(engine),
        "bytes": engine.stat().st_size,
    }
    assert manifest["onnx"] == {
        "file": "m.ref.onnx",
        "sha256": sha256(onnx),
        "bytes": onnx.stat().st_size,
    }
    import tensorrt_rtx

    assert manifest["recipe"] == {
        "onnx_sha256": sha256(onnx),
        "plugin_sha256": None,
        "backend": "tensorrt-rtx",
        "backend_version": tensorrt_rtx.__version__,
        "gpu": None,
        "options": {
            "workspace_gib": 1.5,
            "optimization_level": 2,
            "compute_capabilities": ["8.9"],
            "batch": None,
            "aux_streams": None,
            "hardware_compatibility": "none",
            "version_compatible": False,
            "profiling_verbosity": "detailed",
        },
    }
    assert manifest["model"] == METADATA
    assert 0 < manifest["build"]["seconds"] < 60
    machine = manifest["build"]["machine"]
    assert machine["cpu"] and machine["os"]
    assert (machine["gpu"] is None) == (machine["no_gpu_because"] is not None)


@pytest.mark.parametrize(
    ("precision", "expected"), [("fp16", {"Half": 5, "Float": 1}), ("fp32", {"Float": 6})]
)
def test_layers_are_counted_by_the_type_that_they_put_out(tmp_path, precision, expected):
    onnx = save_conv(tmp_path / "m.onnx", precision=precision)
    layers = build(onnx, tmp_path / "m.engine").manifest["layers"]
    if layers["source"] == "parsed network":  # no GPU here
        assert layers["by_type"] == {"CAST": 2, "CONVOLUTION": 2, "ACTIVATION": 2}
        assert layers["output_types"] == expected
    else:
        assert set(expected) <= set(layers["output_types"])


def test_an_engine_without_the_promised_precision_is_refused(tmp_path):
    onnx = save_conv(tmp_path / "m.onnx", precision="fp32")
    onnx.write_bytes(onnx.read_bytes().replace(b'"fp32"', b'"fp16"'))
    with pytest.raises(UserError, match=r"exported for fp16, but no layer .* \{'Float': 6\}"):
        build(onnx, tmp_path / "m.engine")
    assert [file.name for file in tmp_path.iterdir()] == ["m.onnx"]


def test_io_of_a_fixed_batch(tmp_path):
    onnx = save_conv(tmp_path / "m.onnx", batch=2)
    assert build(onnx, tmp_path / "m.engine").manifest["io"] == [
        {
            "name": "batch_inputs",
            "mode": "input",
            "dtype": "float32",
            "shape": [2, 3, SIZE, SIZE],
            "profile": None,
        },
        {
            "name": "scores",
            "mode": "output",
            "dtype": "float32",
            "shape": [2, CHANNELS, SIZE, SIZE],
            "profile": None,
        },
    ]


@pytest.mark.parametrize(("batch", "expected"), [(None, (1, 1, 8)), ((2, 3, 5), (2, 3, 5))])
def test_a_dynamic_batch_gets_a_profile(tmp_path, batch, expected):
    onnx = save_conv(tmp_path / "m.onnx", batch="batch")
    image, scores = build(onnx, tmp_path / "m.engine", batch=batch).manifest["io"]
    assert image["shape"] == [-1, 3, SIZE, SIZE]
    names = ("min", "opt", "max")
    assert image["profile"] == {
        name: [size, 3, SIZE, SIZE] for name, size in zip(names, expected, strict=True)
    }
    assert scores["shape"][0] == -1
    assert scores["profile"] is None


def test_the_compute_capabilities_reach_the_builder(tmp_path):
    onnx = save_conv(tmp_path / "m.onnx")
    plans = {
        capabilities: build(
            onnx, tmp_path / "m.engine", compute_capabilities=capabilities
        ).manifest["engine"]["sha256"]
        for capabilities in [("8.9",), ("12.0",), ("7.5", "12.0")]
    }
    assert len(set(plans.values())) == 3


def test_the_same_recipe_is_reused_and_force_builds_anew(tmp_path):
    onnx, engine = save_conv(tmp_path / "m.onnx"), tmp_path / "m.engine"
    first = build(onnx, engine, compute_capabilities=("8.9", "12.0"))
    before = engine.stat()
    # The order of the targets does not matter, nor does what the ONNX is called.
    second = build(onnx.rename(tmp_path / "n.onnx"), engine, compute_capabilities=("12.0", "8.9"))
    assert (first.reused, second.reused) == (False, True)
    assert second.manifest == first.manifest
    assert (engine.stat().st_ino, engine.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)

    third = build(tmp_path / "n.onnx", engine, compute_capabilities=("12.0", "8.9"), force=True)
    assert not third.reused
    assert engine.stat().st_ino != before.st_ino


def change_onnx(onnx, engine):  # noqa: ARG001
    save_conv(onnx, seed=1)


def change_engine(onnx, engine):  # noqa: ARG001
    engine.write_bytes(engine.read_bytes()[:-1])


def remove_manifest(onnx, engine):  # noqa: ARG001
    manifest_path(engine).unlink()


def damage_manifest(onnx, engine):  # noqa: ARG001
    manifest_path(engine).write_text("{")


def change_version(onnx, engine):  # noqa: ARG001
    path = manifest_path(engine)
    manifest = json.loads(path.read_text())
    manifest["recipe"]["backend_version"] = "1.0"
    path.write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    "change", [change_onnx, change_engine, remove_manifest, damage_manifest, change_version]
)
def test_nothing_else_is_reused(tmp_path, change):
    onnx, engine = save_conv(tmp_path / "m.onnx"), tmp_path / "m.engine"
    build(onnx, engine)
    change(onnx, engine)
    assert not build(onnx, engine).reused
    assert read_manifest(engine)["recipe"]["onnx_sha256"] == sha256(onnx)


def test_other_options_are_not_reused(tmp_path):
    onnx, engine = save_conv(tmp_path / "m.onnx"), tmp_path / "m.engine"
    build(onnx, engine)
    assert not build(onnx, engine, workspace_gib=2).reused


def test_a_failed_build_leaves_the_good_engine_alone(tmp_path):
    onnx, engine = save_conv(tmp_path / "m.onnx"), tmp_path / "m.engine"
    manifest = build(onnx, engine).manifest
    with pytest.raises(UserError, match=r"could not build .* within workspace limit"):
        build(onnx, engine, workspace_gib=1e-6)
    assert read_manifest(engine) == manifest


def test_only_the_batch_may_be_dynamic(tmp_path):
    from onnx import helper

    nodes = [helper.make_node("Relu", ["batch_inputs"], ["scores"])]
    onnx = save_model(tmp_path / "m.onnx", nodes, height="height")
    with pytest.raises(UserError, match=r"batch_inputs has the shape \(1, 3, -1, 16\)"):
        build(onnx, tmp_path / "m.engine")
