"""The command line: what it prints, what it imports, and how it is cancelled."""

import json
import os
import pty
import subprocess
import sys

from tests.processes import run_python
from trt_build.cli import main

RTX = ["--backend", "tensorrt-rtx"]


def test_build_says_what_it_built_and_then_that_it_is_there(tmp_path, onnx, capsys):
    engine = tmp_path / "m.engine"
    command = [str(onnx), "-o", str(engine), *RTX, "--compute-capability", "12.0,8.9"]
    assert main(command) == 0
    out = capsys.readouterr().out
    assert "built for compute capability 8.9, 12.0 by TensorRT-RTX 1." in out
    assert "Half 5, Float 1" in out or "engine inspector" in out
    assert main(command) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"{engine} is up to date")
    assert out.count("\n") == 1
    assert main([*command, "--force"]) == 0
    assert "built for" in capsys.readouterr().out


def test_reuse_imports_no_backend(tmp_path, onnx):
    engine = tmp_path / "m.engine"
    assert main([str(onnx), "-o", str(engine), *RTX]) == 0
    code = """
        import sys
        from trt_build.cli import main
        assert main(sys.argv[1:]) == 0
        loaded = {"tensorrt", "tensorrt_rtx", "polygraphy", "onnx", "numpy"} & set(sys.modules)
        assert not loaded, loaded
    """
    done = run_python(code, onnx, "-o", engine, *RTX)
    assert done.returncode == 0, done.stderr
    assert "up to date" in done.stdout


def test_nothing_but_the_result_is_printed_without_a_terminal(tmp_path, onnx):
    command = [sys.executable, "-m", "trt_build", str(onnx), "-o", str(tmp_path / "e"), *RTX]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr, done.stdout.count("\n")) == (0, "", 1)


def test_verbose_prints_what_the_backend_logs(tmp_path, onnx, capsys):
    assert main([str(onnx), "-o", str(tmp_path / "e"), *RTX, "--verbose"]) == 0
    assert "tensorrt_rtx: info: " in capsys.readouterr().err


def test_a_terminal_sees_a_spinner(tmp_path, onnx):
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "trt_build", str(onnx), "-o", str(tmp_path / "e"), *RTX]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=theirs, timeout=60, check=False)
    os.close(theirs)
    shown = os.read(ours, 100_000).decode()
    os.close(ours)
    assert done.returncode == 0
    assert "building m.ref.onnx with tensorrt_rtx" in shown
    assert "0:00:0" in shown


def test_ctrl_c_in_the_midst_of_a_build(tmp_path, onnx):
    # The signal is sent from the builder's own callback, so it always arrives during the build.
    code = """
        import contextlib, os, signal, sys, time
        import trt_build.build
        from trt_build.cli import main

        phases = []

        @contextlib.contextmanager
        def spinner(title):
            def on_phase(phase):
                phases.append(phase)
                if phase == "Optimizing graph":
                    os.kill(os.getpid(), signal.SIGINT)
                    time.sleep(0.3)
            yield on_phase

        trt_build.build.spinner = spinner
        code = main(sys.argv[1:])
        print(phases)
        sys.exit(code)
    """
    engine = tmp_path / "m.engine"
    done = run_python(code, onnx, "-o", engine, *RTX)
    assert done.returncode == 130, done.stderr
    assert done.stderr == "trt_build: cancelled, nothing was written\n"
    # The builder heard of it and did not go on to its later phases.
    assert "Optimizing graph" in done.stdout
    assert "Computing profile costs" not in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_inspect(tmp_path, onnx, capsys):
    engine = tmp_path / "m.engine"
    assert main([str(onnx), "-o", str(engine), *RTX]) == 0
    capsys.readouterr()
    assert main(["inspect", str(engine), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["model"]["preset"] == "tiny"
    assert main(["inspect", str(engine)]) == 0
    out = capsys.readouterr().out
    for word in ("batch_inputs", "1 x 3 x 16 x 16", "tiny fp16", "tensorrt-rtx 1.", "m.ref.onnx"):
        assert word in out
