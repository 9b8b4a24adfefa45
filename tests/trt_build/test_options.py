"""Build options: what reaches the builder, what is refused, and engines that do not know them."""

import json

import pytest

from runtime.errors import UserError
from runtime.manifest import manifest_path
from runtime.tensorrt_log import make_logger
from tests.plugin.tensorrt_libraries import environment
from tests.processes import run_python
from tests.trt_build.tiny_models import save_conv
from trt_build import BuildOptions, build_engine, choose_backend
from trt_build.cli import main
from trt_build.config import hardware_compatibility_level, make_config

pytest.importorskip("tensorrt_rtx")
RTX = choose_backend("tensorrt-rtx")


@pytest.fixture(scope="module")
def trt():
    return RTX.load()


@pytest.fixture
def configured(trt):
    """``configured(**options)``: the builder configuration that they make."""
    builder = trt.Builder(make_logger(trt))
    return lambda **options: make_config(trt, builder, BuildOptions(**options))


def test_options_reach_the_builder(trt, configured):
    flag = trt.BuilderFlag.VERSION_COMPATIBLE
    config = configured()
    assert config.max_aux_streams == -1  # as the builder sees fit
    assert config.profiling_verbosity == trt.ProfilingVerbosity.DETAILED
    assert not config.get_flag(flag)
    config = configured(
        aux_streams=3, version_compatible=True, profiling_verbosity="layer-names-only"
    )
    assert config.max_aux_streams == 3
    assert config.profiling_verbosity == trt.ProfilingVerbosity.LAYER_NAMES_ONLY
    assert config.get_flag(flag)
    verbosity = configured(profiling_verbosity="none").profiling_verbosity
    assert verbosity == trt.ProfilingVerbosity.NONE


def test_hardware_compatibility_levels_by_name(trt):
    levels = trt.HardwareCompatibilityLevel
    assert hardware_compatibility_level(trt, "ampere-plus") == levels.AMPERE_PLUS
    found = hardware_compatibility_level(trt, "same-compute-capability")
    assert found == levels.SAME_COMPUTE_CAPABILITY


def test_a_level_that_came_after_tensorrt_10_6():
    code = """
        import tensorrt
        from runtime.errors import UserError
        from trt_build.config import hardware_compatibility_level
        print(hardware_compatibility_level(tensorrt, "ampere-plus").name)
        try:
            hardware_compatibility_level(tensorrt, "same-compute-capability")
        except UserError as error:
            print(error)
    """
    done = run_python(code, env=environment("10.6"))
    assert done.returncode == 0, done.stderr
    level, complaint = done.stdout.splitlines()
    assert level == "AMPERE_PLUS"
    assert complaint.startswith("tensorrt 10.6.0 has no hardware compatibility same-compute-cap")
    assert "10.9" in complaint


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--aux-streams", "-1"], "--aux-streams takes 0 to 64, got -1"),
        (["--aux-streams", "many"], "argument --aux-streams: invalid int value: 'many'"),
        (["--aux-streams", "0"], "TensorRT-RTX has no --aux-streams; leave it out"),
        (
            ["--hardware-compatibility", "turing"],
            "--hardware-compatibility takes none, ampere-plus, same-compute-capability, "
            "got 'turing'",
        ),
        (
            ["--hardware-compatibility", "ampere-plus"],
            "TensorRT-RTX has no --hardware-compatibility; leave it out",
        ),
        (["--version-compatible"], "TensorRT-RTX has no --version-compatible; leave it out"),
        (
            ["--profiling-verbosity", "loud"],
            "--profiling-verbosity takes detailed, layer-names-only, none, got 'loud'",
        ),
    ],
)
def test_refused_options(tmp_path, onnx, refused, arguments, message):
    line = refused(onnx, "-o", tmp_path / "e", "--backend", "tensorrt-rtx", *arguments)
    assert line.startswith(message)
    assert line.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def build(onnx, engine, **options):
    return build_engine(onnx, engine, backend=RTX, options=BuildOptions(**options))


@pytest.mark.parametrize("verbosity", ["layer-names-only", "none"])
def test_an_engine_that_does_not_tell_its_precisions(tmp_path, verbosity, capsys):
    onnx, engine = save_conv(tmp_path / "m.onnx"), tmp_path / "m.engine"
    layers = build(onnx, engine, profiling_verbosity=verbosity).manifest["layers"]
    assert layers["source"] == "parsed network"
    assert layers["output_types"] == {"Half": 5, "Float": 1}
    assert main(["inspect", str(engine)]) == 0
    assert f"built with --profiling-verbosity {verbosity}, it does not" in capsys.readouterr().out


def test_its_precision_is_checked_all_the_same(tmp_path):
    onnx = save_conv(tmp_path / "m.onnx", precision="fp32")
    onnx.write_bytes(onnx.read_bytes().replace(b'"fp32"', b'"fp16"'))
    with pytest.raises(UserError, match=r"exported for fp16, but no layer .*\(parsed network"):
        build(onnx, tmp_path / "m.engine", profiling_verbosity="none")


@pytest.fixture
def old_engine(tmp_path):
    """An engine whose manifest knows none of the options that came later."""
    onnx, engine = save_conv(tmp_path / "m.onnx"), tmp_path / "m.engine"
    build(onnx, engine)
    path = manifest_path(engine)
    manifest = json.loads(path.read_text())
    for name in (
        "aux_streams",
        "hardware_compatibility",
        "version_compatible",
        "profiling_verbosity",
    ):
        del manifest["recipe"]["options"][name]
    path.write_text(json.dumps(manifest))
    return engine


def test_an_engine_from_before_is_built_anew(old_engine):
    onnx = old_engine.with_suffix(".onnx")
    assert not build(onnx, old_engine).reused
    assert build(onnx, old_engine).reused


def test_an_engine_from_before_is_inspected(old_engine, capsys):
    assert main(["inspect", str(old_engine)]) == 0
    out = capsys.readouterr().out
    assert "tiny fp16" in out
    assert "aux_streams" not in out
