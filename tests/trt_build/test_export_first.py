"""One command from a checkpoint to an engine: ``python -m trt_build --weights``."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import onnx
import pytest

from onnx_export.__main__ import parser
from runtime.errors import UserError
from tests.processes import run_python
from tests.synthetic_checkpoint import state_of, write_checkpoint
from tests.trt_build.tiny_models import save_model
from trt_build.backend import BACKENDS
from trt_build.export_first import ExportRequest, export_first, is_exported, onnx_paths

PRESET = "co_dino_swin_tiny"
FILES = {"model.engine", "model.engine.json", "model.onnx", "model.ref.onnx"}


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    return write_checkpoint(path, state_of(PRESET))


def command(weights, engine, *, preset=PRESET, height=160, width=224):
    arguments = f"--preset {preset} --height {height} --width {width} --precision fp16 --no-mask"
    paths = ["--weights", str(weights), "-o", str(engine), "--backend", "tensorrt-rtx"]
    return [sys.executable, "-m", "trt_build", *arguments.split(), *paths]


def run(*arguments):
    return subprocess.run(arguments, capture_output=True, text=True, timeout=300, check=False)


def contents(folder):
    return {path.name: hashlib.sha256(path.read_bytes()).digest() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def built(weights, tmp_path_factory):
    """The engine of one command, and what the command said; not to be changed."""
    engine = tmp_path_factory.mktemp("built") / "new" / "model.engine"
    return engine, run(*command(weights, engine))


@pytest.fixture
def request_of_built(weights):
    return ExportRequest(
        preset=PRESET, weights=weights, height=160, width=224, precision="fp16", mask=False
    )


def test_both_onnx_files_and_the_engine_are_made(built, weights):
    engine, done = built
    assert done.returncode == 0, done.stderr
    assert contents(engine.parent).keys() == FILES
    assert f"reading {weights}" in done.stderr  # as the exporter tells it
    assert done.stdout.startswith(f"{engine}: ")
    assert done.stdout.count("\n") == 1
    manifest = json.loads((engine.parent / "model.engine.json").read_text())
    assert manifest["onnx"]["file"] == "model.ref.onnx"  # what TensorRT-RTX builds from
    assert manifest["model"]["role"] == "reference"
    assert manifest["model"]["precision"] == "fp16"
    assert [tensor["name"] for tensor in manifest["io"]][:2] == ["batch_inputs", "boxes"]


def test_nothing_is_made_twice(built, weights):
    engine, _ = built
    before = {path: path.stat().st_ino for path in engine.parent.iterdir()}
    done = run(*command(weights, engine))
    assert done.returncode == 0, done.stderr
    assert done.stderr == (
        f"{engine.with_suffix('.onnx')} and model.ref.onnx are up to date "
        "(same weights and settings)\n"
    )
    assert done.stdout.startswith(f"{engine} is up to date")
    assert {path: path.stat().st_ino for path in engine.parent.iterdir()} == before


@pytest.mark.parametrize(
    "changed",
    [
        {"preset": "co_dino_r50_small"},
        {"height": 192},
        {"width": 192},
        {"height": [160, 160], "width": [224, 224]},
        {"precision": "fp32"},
        {"mask": True},
        {"kernels": "attention"},
        {"dynamic_batch": True},
    ],
)
def test_other_settings_are_exported_anew(built, request_of_built, changed):
    paths = onnx_paths(built[0])
    assert is_exported(request_of_built, paths)
    assert not is_exported(dataclasses.replace(request_of_built, **changed), paths)


def test_ranges_reach_the_exporter(weights):
    sizes = {"height": [160, 320], "width": [160, 640]}
    request = ExportRequest(preset=PRESET, weights=weights, **sizes)
    args = parser().parse_args(request.arguments(Path("m.onnx")))
    assert (args.height, args.width) == ((160, 320), (160, 640))
    # As it is read back from an ONNX.
    assert sizes.items() <= json.loads(json.dumps(request.metadata())).items()


def test_other_weights_are_exported_anew(built, request_of_built, tmp_path):
    paths = onnx_paths(built[0])
    copy = shutil.copy(request_of_built.weights, tmp_path / "copy.safetensors")
    assert is_exported(dataclasses.replace(request_of_built, weights=copy), paths)
    with copy.open("ab") as file:
        file.write(b" ")
    assert not is_exported(dataclasses.replace(request_of_built, weights=copy), paths)


@pytest.fixture
def copied(built, tmp_path):
    """A copy of the ONNX files that may be changed: the engine's path beside them."""
    for path in onnx_paths(built[0]):
        shutil.copy(path, tmp_path)
    return tmp_path / "model.engine"


@pytest.mark.parametrize("index", [0, 1])
def test_a_damaged_or_missing_onnx_is_exported_anew(copied, request_of_built, index):
    paths = onnx_paths(copied)
    paths[index].write_bytes(paths[index].read_bytes()[:1000])
    assert not is_exported(request_of_built, paths)
    paths[index].unlink()
    assert not is_exported(request_of_built, paths)


def test_batches_ask_for_an_export_with_a_dynamic_batch(copied, weights):
    # The files are made to say that they have one, so they are taken; the builder then finds out.
    for path in onnx_paths(copied):
        model = onnx.load(path)
        metadata = json.loads(model.metadata_props[0].value) | {"batch": "dynamic"}
        onnx.helper.set_model_props(model, {"codetr": json.dumps(metadata)})
        onnx.save(model, path)
    done = run(*command(weights, copied), "--batch", "1,2,4")
    assert done.returncode == 2
    taken, complaint = done.stderr.splitlines()
    assert "up to date" in taken
    assert "fixed batch of 1; leave --batch out" in complaint


def test_another_calibration_is_exported_anew(tmp_path, weights):
    scales = tmp_path / "m.scales.json"
    scales.write_text("{}")
    request = ExportRequest(
        preset=PRESET, weights=weights, height=160, width=224, precision="fp8", calibration=scales
    )
    paths = onnx_paths(tmp_path / "m.engine")
    relu = onnx.helper.make_node("Relu", ["batch_inputs"], ["scores"])
    for path in paths:
        save_model(path, [relu], metadata=request.metadata())
    assert is_exported(request, paths)
    folder = dataclasses.replace(request, calibration=tmp_path)
    assert not is_exported(folder, paths)  # its pictures may be others by now
    assert parser().parse_args(folder.arguments(paths[0])).calibration == tmp_path
    scales.write_text("{ }")
    assert not is_exported(request, paths)


@pytest.mark.parametrize("mask", [True, False])
@pytest.mark.parametrize("dynamic_batch", [True, False])
def test_the_exporter_understands_the_request(request_of_built, mask, dynamic_batch):
    wanted = dataclasses.replace(request_of_built, mask=mask, dynamic_batch=dynamic_batch)
    args = parser().parse_args(wanted.arguments(Path("-a b.onnx")))
    assert (args.preset, args.weights, args.height, args.width) == (
        PRESET,
        wanted.weights,
        160,
        224,
    )
    assert (args.precision, args.no_mask) == ("fp16", not mask)
    assert args.batch == ("dynamic" if dynamic_batch else 1)
    assert args.output == Path("-a b.onnx")


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"preset": "co_dino_swin_xl"}, "invalid choice: 'co_dino_swin_xl'"),
        ({"height": 16, "width": 16}, "23 tokens for 100 queries"),
    ],
)
def test_a_failing_export_speaks_for_itself(weights, tmp_path, changed, words):
    done = run(*command(weights, tmp_path / "model.engine", **changed))
    assert done.returncode == 2
    assert words in done.stderr.splitlines()[-1]
    assert "trt_build: error" not in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_ends_both_processes(built, copied, weights):
    shutil.copy(built[0], copied)
    before = contents(copied.parent)
    # Not up to date for --force; the signal goes to trt_build alone, as from another program.
    process = subprocess.Popen(
        [*command(weights, copied), "--force"], stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    line = process.stderr.readline()
    assert "reading" in line
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    assert len(children) == 1
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130
    assert told.endswith("trt_build: cancelled, nothing was written\n")
    assert "python -m onnx_export: cancelled" in told  # it was told, and did not run to its end
    assert "Traceback" not in told
    with pytest.raises(ProcessLookupError):
        os.kill(int(children[0]), 0)
    assert contents(copied.parent) == before


EXPORT = ["--weights", "w.pth", "--preset", PRESET, "--height", "160", "--width", "224"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give an ONNX file, or --weights, --preset, --height, --width"),
        (["m.onnx", *EXPORT], "got the ONNX m.onnx and --weights w.pth; give one of them"),
        (EXPORT[:-2], "--weights needs --width too"),
        (EXPORT[:2], "--weights needs --preset, --height, --width too"),
        (["m.onnx", "--precision", "fp16"], "--precision: only an export takes that; give --weigh"),
        (["m.onnx", "--no-mask", "--height", "9"], "--height, --no-mask: only an export takes"),
        (EXPORT, "no checkpoint at w.pth; give an mmdet .pth or .safetensors"),
    ],
)
def test_mistakes(tmp_path, refused, arguments, message):
    line = refused(*arguments, "-o", tmp_path / "m.engine", "--backend", "tensorrt-rtx")
    assert line.startswith(message)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--backend", "banana"], "no backend is called 'banana'"),
        (["--aux-streams", "0"], "TensorRT-RTX has no --aux-streams"),
        (["--timing-cache", "times"], "TensorRT-RTX times no kernels"),
    ],
)
def test_what_the_build_would_refuse_is_refused_first(
    tmp_path, weights, refused, arguments, message
):
    # The exporter does not run: under this fixture it would have no stderr to write to.
    paths = ["--weights", weights, "-o", tmp_path / "m.engine", "--backend", "tensorrt-rtx"]
    assert message in refused(*EXPORT[2:], *paths, *arguments)


def test_outputs_that_cannot_be_written(tmp_path, weights, refused):
    def line(weights, engine):
        paths = ["--weights", weights, "-o", engine, "--backend", "tensorrt-rtx"]
        return refused(*EXPORT[2:], *paths)

    copy = shutil.copy(weights, tmp_path / "w.onnx")
    assert "w.onnx would overwrite the checkpoint" in line(copy, tmp_path / "w.engine")
    assert "m.onnx is where the ONNX goes" in line(weights, tmp_path / "m.onnx")
    (tmp_path / "m.ref.onnx").mkdir()
    assert "m.ref.onnx: it is a folder" in line(weights, tmp_path / "m.engine")


def test_the_plugin_must_be_there_before_an_export_for_tensorrt(tmp_path, request_of_built):
    with pytest.raises(UserError, match="python -m plugin build"):
        export_first(
            request_of_built,
            tmp_path / "m.engine",
            backend=BACKENDS["tensorrt"],
            plugin_library=tmp_path / "none.so",
            force=False,
        )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("missing", ["torch", "onnx_export", "onnxscript"])
def test_packages_that_are_not_there(tmp_path, weights, missing):
    code = """
        import sys
        sys.modules[sys.argv.pop(1)] = None
        from trt_build.cli import main
        sys.exit(main(sys.argv[1:]))
    """
    arguments = command(weights, tmp_path / "m.engine")[3:]
    done = run_python(code, missing, *arguments)
    assert done.returncode == 2
    assert done.stderr == (
        f'trt_build: error: an export needs {missing}; install it: pip install -e ".[export]"\n'
    )
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_fails_the_export_in_one_line(tmp_path):
    code = """
        import resource, sys
        from pathlib import Path
        import onnx
        from codetr.errors import UserError
        from onnx_export.export import _save
        resource.setrlimit(resource.RLIMIT_FSIZE, (10, 10))  # no file may grow larger
        try:
            _save(onnx.ModelProto(producer_name="long enough"), Path(sys.argv[1]))
        except UserError as error:
            print(error)
    """
    done = run_python(code, tmp_path / "m.onnx")
    assert done.stdout == "cannot write m.onnx: File too large; make room there\n", done.stderr
