"""Real TensorRT-RTX builds of tiny graphs: the engine, its manifest, and when it is reused."""

import hashlib
import json

import pytest
from onnx import helper

from runtime.errors import UserError
from runtime.manifest import manifest_path, read_manifest
from runtime.shapes import ShapeRange
from runtime.tensorrt_log import make_logger
from tests.trt_build.tiny_models import CHANNELS, METADATA, SIZE, save_conv, save_model
from trt_build import BuildOptions, build_engine, choose_backend, inspect_engine
from trt_build.network import input_profile
from trt_build.report import print_tables

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


RELU = [helper.make_node("Relu", ["batch_inputs"], ["scores"])]


def test_only_the_batch_may_be_dynamic(tmp_path):
    onnx = save_model(tmp_path / "m.onnx", RELU, height="height")
    with pytest.raises(UserError, match=r"batch_inputs has the shape \(1, 3, -1, 16\)"):
        build(onnx, tmp_path / "m.engine")


def save_any_size(path, *, height=(32, 64), batch=1):
    sizes = {"height": height, "width": (32, 96)}
    metadata = METADATA | {"precision": "fp32"} | sizes
    names = {name: name for name in sizes}
    return save_model(path, RELU, batch=batch, metadata=metadata, **names)


@pytest.mark.parametrize(
    ("batch", "option", "least", "usual", "most"),
    [
        (1, None, [1, 3, 32, 32], [1, 3, 64, 96], [1, 3, 64, 96]),
        ("batch", (1, 2, 4), [1, 3, 32, 32], [2, 3, 64, 96], [4, 3, 64, 96]),
    ],
)
def test_ranges_of_the_onnx_get_a_profile(tmp_path, capsys, batch, option, least, usual, most):
    onnx = save_any_size(tmp_path / "m.onnx", batch=batch)
    engine = tmp_path / "m.engine"
    manifest = build(onnx, engine, batch=option).manifest
    assert manifest["io"][0]["profile"] == {"min": least, "opt": usual, "max": most}
    assert (manifest["model"]["height"], manifest["model"]["width"]) == ([32, 64], [32, 96])
    assert build(onnx, engine, batch=option).reused
    print_tables(engine, inspect_engine(engine))
    shown = capsys.readouterr().out
    assert ("B" if option else "1") + " x 3 x H x W" in shown
    assert ("2x64x96" if option else "64x96, 64x96") in shown


def test_ranges_that_make_no_sense_are_refused(tmp_path):
    onnx = save_any_size(tmp_path / "m.onnx", height=(32, 70))
    with pytest.raises(UserError, match=r"m.onnx is not a Co-DETR model: its height is \[32, 70\]"):
        build(onnx, tmp_path / "m.engine")


@pytest.mark.parametrize(
    ("inputs", "profile"),
    [
        # Queries that are told, as for the stages of ``trt_build verify``.
        (
            {"images": (-1, 3, -1, -1), "queries": (-1, 900)},
            {"images": [(1, 3, 32, 32), (2, 3, 64, 96), (4, 3, 64, 96)]}
            | {"queries": [(1, 900), (2, 900), (4, 900)]},
        ),
        (
            {"images": (2, 3, -1, -1), "masks": (2, -1, -1), "queries": (2, 900)},
            {"images": [(2, 3, 32, 32), (2, 3, 64, 96), (2, 3, 64, 96)]}
            | {"masks": [(2, 32, 32), (2, 64, 96), (2, 64, 96)]},
        ),
        ({"images": (2, 3, 64, 96)}, {}),
    ],
)
def test_a_profile_holds_the_inputs_that_may_change(inputs, profile):
    dynamic = any(shape[0] == -1 for shape in inputs.values())
    sizes = ShapeRange((32, 32), (64, 96))
    found = input_profile(network_of(inputs), (1, 2, 4) if dynamic else None, sizes)
    assert {name: list(shapes) for name, shapes in found.items()} == profile


@pytest.mark.parametrize("shape", [(-1, -1, 64, 64), (1, -1), (-1, -1)])
def test_other_axes_may_not_change(shape):
    with pytest.raises(UserError, match="only the batch may be dynamic, and height and width"):
        input_profile(network_of({"x": shape}), None, ShapeRange((32, 32), (64, 96)))


def network_of(inputs):
    """A parsed network of nothing but inputs."""
    trt = RTX.load()
    logger = make_logger(trt)
    flags = 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    network = trt.Builder(logger).create_network(flags)
    for name, shape in inputs.items():
        network.add_input(name, trt.float32, shape)
    return network
