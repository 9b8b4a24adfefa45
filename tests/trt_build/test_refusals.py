"""What a build refuses: one line, exit code 2, and no file left behind."""

import itertools

import pytest
from onnx import TensorProto, helper

from tests.processes import run_python
from tests.trt_build.tiny_models import save_model
from trt_build.cli import main

RTX = ["--backend", "tensorrt-rtx"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--workspace", "-1"], "--workspace takes GiB, more than 0, got -1"),
        (["--workspace", "nan"], "--workspace takes GiB"),
        (["--workspace", "lots"], "argument --workspace: invalid float value: 'lots'"),
        (["--optimization-level", "9"], "--optimization-level takes 0 to 5, got 9"),
        (["--compute-capability", "banana"], "takes numbers like 8.9"),
        (["--compute-capability", "8.9,"], "takes numbers like 8.9"),
        (["--compute-capability", "9.0,8.9"], "does not build for compute capability 9.0; choose"),
        (["--batch", "1,2"], "--batch: takes MIN,OPT,MAX like 1,4,16, got '1,2'"),
        (["--width", "320:"], "--width: takes PIXELS or MIN:MAX like 320:1280, got '320:'"),
        (["--batch", "4,2,8"], "1 <= MIN <= OPT <= MAX, got 4,2,8"),
        (["--batch", "1,2,4"], "fixed batch of 1; leave --batch out"),
        (["--timing-cache", "times"], "TensorRT-RTX times no kernels"),
        (["--forc"], "unrecognized arguments: --forc"),
        (["--fp16"], "unrecognized arguments: --fp16"),
    ],
)
def test_absurd_options(tmp_path, onnx, refused, arguments, message):
    assert message in refused(onnx, "-o", tmp_path / "e", *RTX, *arguments)
    assert list(tmp_path.iterdir()) == []


def test_backends_that_are_not_there(tmp_path, onnx, refused):
    line = refused(onnx, "-o", tmp_path / "e", "--backend", "banana")
    assert line == "no backend is called 'banana'; choose from tensorrt, tensorrt-rtx\n"
    code = """
        import sys
        sys.modules["tensorrt"] = sys.modules["tensorrt_rtx"] = None
        from trt_build.cli import main
        sys.exit(main(sys.argv[1:]))
    """
    done = run_python(code, onnx, "-o", tmp_path / "e")
    assert done.returncode == 2
    assert "found no TensorRT nor TensorRT-RTX" in done.stderr
    assert 'pip install -e ".[rtx]"' in done.stderr


@pytest.mark.parametrize("missing", ["onnx", "polygraphy"])
def test_packages_that_are_not_there(tmp_path, onnx, missing):
    code = """
        import sys
        sys.modules[sys.argv.pop(1)] = None
        from trt_build.cli import main
        sys.exit(main(sys.argv[1:]))
    """
    done = run_python(code, missing, onnx, "-o", tmp_path / "e", *RTX)
    assert done.returncode == 2, done.stderr
    assert done.stderr.endswith(f"to read ONNX files; install: pip install {missing}\n")
    assert done.stderr.count("\n") == 1


def test_a_plugin_node_needs_tensorrt(tmp_path, refused):
    node = helper.make_node(
        "CoDetrMSDeformAttn",
        ["batch_inputs"] * 5,
        ["scores"],
        domain="codetr",
        num_heads=8,
        num_points=4,
        plugin_version="1",
        plugin_namespace="",
    )
    onnx = save_model(tmp_path / "model.onnx", [node])
    line = refused(onnx, "-o", tmp_path / "e", *RTX)
    assert "holds plugin nodes (CoDetrMSDeformAttn), which TensorRT-RTX cannot run" in line
    assert line.endswith("give model.ref.onnx\n")


def test_parse_errors_are_one_line_each(tmp_path, refused):
    names = ["batch_inputs", *(f"t{i}" for i in range(6)), "scores"]
    nodes = [
        helper.make_node("Bernoulli", [source], [target], name=f"node_{source}")
        for source, target in itertools.pairwise(names)
    ]
    onnx = save_model(tmp_path / "m.onnx", nodes)
    lines = refused(onnx, "-o", tmp_path / "e", *RTX).splitlines()
    assert "m.onnx cannot be parsed by tensorrt_rtx" in lines[0]
    assert len(lines) == 7
    assert lines[1].startswith("  node node_batch_inputs (Bernoulli): ")
    assert lines[-1] == "  and 2 more"


def test_a_network_with_mixed_types_is_refused(tmp_path, capsys):
    # Weak typing would cast; a strongly typed network says that the exporter forgot to.
    nodes = [
        helper.make_node("Cast", ["batch_inputs"], ["half"], to=TensorProto.FLOAT16),
        helper.make_node("Add", ["batch_inputs", "half"], ["scores"], name="mixed"),
    ]
    onnx = save_model(tmp_path / "m.onnx", nodes)
    assert main([str(onnx), "-o", str(tmp_path / "e"), *RTX]) == 2
    warning, _title, problem = capsys.readouterr().err.splitlines()
    assert warning.startswith("tensorrt_rtx: warning: ")
    assert problem.startswith("  node mixed (Add): ")
    assert "must have same input types" in problem
    assert "cudaError" not in problem


def save_bytes(data):
    return lambda path, good: path.write_bytes(data(good.read_bytes()))


def save_relu(**options):
    nodes = [helper.make_node("Relu", ["batch_inputs"], ["scores"])]
    return lambda path, _good: save_model(path, nodes, **options)


@pytest.mark.parametrize(
    ("save", "message"),
    [
        (lambda _path, _good: None, "is not there; give an ONNX file"),
        (lambda path, _good: path.mkdir(), "is a folder; give an ONNX file"),
        (save_bytes(lambda _: b""), "holds no ONNX graph"),
        (save_bytes(lambda good: good[: len(good) // 2]), "is not a whole ONNX model"),
        (save_bytes(lambda _: b"hello world\n" * 100), "is not a whole ONNX model"),
        (save_bytes(lambda _: b"\x89PNG\r\n\x1a\n" + bytes(100)), "is not a whole ONNX model"),
        (save_relu(metadata=None), "has no usable metadata entry 'codetr'"),
        (save_relu(metadata=[1]), "has no usable metadata entry 'codetr'"),
    ],
)
def test_bad_onnx_files(tmp_path, onnx, refused, save, message):
    path = tmp_path / "bad.onnx"
    save(path, onnx)
    assert message in refused(path, "-o", tmp_path / "e", *RTX)
    assert {file.name for file in tmp_path.iterdir()} <= {"bad.onnx"}


def test_weights_in_another_file_are_refused(tmp_path, onnx, refused):
    import onnx as onnx_package

    path = tmp_path / "m.onnx"
    model = onnx_package.load(onnx)
    onnx_package.save(model, path, save_as_external_data=True, location="weights", size_threshold=0)
    assert "keeps its weights in other files" in refused(path, "-o", tmp_path / "e", *RTX)


def test_outputs_that_cannot_be_written(tmp_path, onnx, refused):
    line = refused(onnx, "-o", onnx, *RTX)
    assert "would overwrite the ONNX" in line
    line = refused(onnx, "-o", tmp_path, *RTX)
    assert "it is a folder" in line
    (tmp_path / "file").touch()
    line = refused(onnx, "-o", tmp_path / "file" / "deep" / "m.engine", *RTX)
    assert f"{tmp_path / 'file'} is not a folder that can be written" in line


def test_a_full_disk_leaves_nothing(tmp_path, onnx):
    code = """
        import resource, sys
        from trt_build.cli import main
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))  # no file may grow larger
        sys.exit(main(sys.argv[1:]))
    """
    done = run_python(code, onnx, "-o", tmp_path / "m.engine", *RTX)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith(f"trt_build: error: cannot write {tmp_path / 'm.engine'}: File")
    assert list(tmp_path.iterdir()) == []


def test_the_output_folder_is_checked_before_the_onnx_is_read(tmp_path, refused, monkeypatch):
    (tmp_path / "bad.onnx").write_bytes(b"")
    # Tests run as root too, who may write into any folder.
    monkeypatch.setattr("os.access", lambda _path, _mode: False)
    line = refused(tmp_path / "bad.onnx", "-o", tmp_path / "new" / "m.engine", *RTX)
    assert line.endswith(f"m.engine: {tmp_path} is not a folder that can be written\n")
