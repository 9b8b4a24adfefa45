"""What `python -m plugin build` and CMake say where something is missing."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from plugin.build import ROOT, build_plugin
from plugin.library import LIBRARY_NAME
from runtime.errors import UserError
from tests.plugin.conftest import ARCHITECTURES


def add_tool(folder, name, script="exit 0"):
    tool = folder / name
    tool.write_text(f"#!/bin/sh\n{script}\n")
    tool.chmod(0o755)


def run_build(root, path):
    """`python -m plugin build` in a checkout, with the tools of one folder."""
    return subprocess.run(
        # -S: an editable install would put its own checkout before this one.
        [sys.executable, "-S", "-m", "plugin", "build"],
        cwd=root,
        env={"PATH": str(path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_without_cmake(tmp_path):
    done = run_build(ROOT, tmp_path)
    assert done.returncode == 2
    assert done.stderr == "plugin: error: found no cmake; install it: pip install cmake ninja\n"


def test_without_ninja_and_make(tmp_path):
    add_tool(tmp_path, "cmake")
    done = run_build(ROOT, tmp_path)
    assert done.returncode == 2
    wanted = "plugin: error: found neither ninja nor make; install one: pip install ninja\n"
    assert done.stderr == wanted


def test_without_the_sources(tmp_path):
    for package in ("plugin", "runtime"):
        shutil.copytree(ROOT / package, tmp_path / package)
    done = run_build(tmp_path, os.environ["PATH"])
    assert done.returncode == 2
    wanted = f"plugin: error: {tmp_path} is no checkout of the sources; build the plugin in one\n"
    assert done.stderr == wanted


def test_a_failing_tool(tmp_path):
    for tool in ("ninja", "nvcc"):
        add_tool(tmp_path, tool)
    add_tool(tmp_path, "cmake", "echo what cmake says; exit 7")
    done = run_build(ROOT, tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    said, error = done.stderr.splitlines()
    assert said == "what cmake says"
    assert error.startswith("plugin: error: cmake ")
    assert error.endswith("failed with exit code 7; see above")


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"cannot write .*file/build: Not a directory; build in"):
        build_plugin(tmp_path / "file" / "build", install=False)


def test_cancelling(tmp_path):
    for tool in ("ninja", "nvcc"):
        add_tool(tmp_path, tool)
    add_tool(tmp_path, "cmake", "echo started >&2; exec sleep 60")
    (tmp_path / "sleep").symlink_to(shutil.which("sleep"))
    build = subprocess.Popen(
        [sys.executable, "-m", "plugin", "build"],
        cwd=ROOT,
        env={"PATH": str(tmp_path)},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert build.stderr.readline() == "started\n"
    os.killpg(build.pid, signal.SIGINT)  # as Ctrl-C does
    _, said = build.communicate(timeout=30)
    assert (build.returncode, said) == (130, "plugin: cancelled, no library was written\n")


def test_architectures_of_an_earlier_build_are_forgotten(tmp_path, monkeypatch):
    """CMake keeps what it was once given."""
    for tool in ("ninja", "nvcc"):
        add_tool(tmp_path, tool)
    add_tool(tmp_path, "cmake", f'echo "$@" >> {tmp_path / "calls"}')
    monkeypatch.setenv("PATH", str(tmp_path))
    build_plugin(tmp_path / "build", architectures="90", install=False)
    build_plugin(tmp_path / "build", install=False)
    first, _, second, _ = (tmp_path / "calls").read_text().splitlines()
    assert "-DCODETR_CUDA_ARCHITECTURES=90" in first
    assert "-UCODETR_CUDA_ARCHITECTURES" in second


@pytest.fixture
def configure(tmp_path):
    """Runs CMake where no tool but these can be found; returns exit code and error."""
    tools = tmp_path / "tools"
    tools.mkdir()
    for tool in ("cmake", "make"):
        (tools / tool).symlink_to(shutil.which(tool))

    def run(*switches, path=tools, **variables):
        command = ["cmake", "-S", ROOT, "-B", tmp_path / "build", "-G", "Unix Makefiles"]
        command += ["-DCMAKE_FIND_USE_CMAKE_SYSTEM_PATH=OFF", *switches]
        variables["PATH"] = str(path)
        done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
        return done.returncode, " ".join(done.stderr.split())

    run.tools = tools
    return run


OFF = (
    "or leave the plugin out with -DCODETR_BUILD_PLUGIN=OFF (pip install -C cmake.define.CODETR_BU"
)


@pytest.mark.skipif(Path("/usr/local/cuda/bin/nvcc").exists(), reason="nvcc is found anyway")
def test_configuring_without_compilers(configure):
    code, error = configure()
    assert code != 0
    assert "found no C++ compiler; install one" in error
    assert OFF in error
    (configure.tools / "c++").symlink_to(shutil.which("c++"))
    code, error = configure()
    assert code != 0
    assert "found no nvcc; install a CUDA toolkit and set CUDACXX=/path/to/nvcc" in error
    assert "python -m plugin build" in error
    assert OFF in error


@pytest.mark.usefixtures("build_folder")  # it has found or fetched nvcc
def test_configuring_without_headers(configure, tmp_path):
    nvcc = f"-DCMAKE_PREFIX_PATH={ROOT / 'build' / 'cuda'}"
    code, error = configure(nvcc, path=os.environ["PATH"], TENSORRT_INCLUDE_DIR=str(tmp_path))
    assert code != 0
    assert f"TENSORRT_INCLUDE_DIR is {tmp_path}, which holds no NvInferRuntime.h" in error
    assert OFF in error
    for tool in ("cargo", "git"):
        add_tool(configure.tools, tool, f"echo {tool} is offline >&2; exit 1")
    path = f"{configure.tools}{os.pathsep}{os.environ['PATH']}"
    code, error = configure(nvcc, path=path)
    assert code != 0
    wanted = "found no TensorRT headers (NvInferRuntime.h) and could fetch none: "
    assert f"{wanted}cargo: cargo is offline git: git is offline" in error
    assert "name their folder with the variable TENSORRT_INCLUDE_DIR" in error
    assert OFF in error


def test_configuring_without_the_plugin_needs_nothing(configure):
    assert configure("-DCODETR_BUILD_PLUGIN=OFF") == (0, "")


def test_the_same_sources_give_the_same_bytes(build_folder, tmp_path):
    """Who trusts the sources can build the library and compare it with a published one."""
    again = build_plugin(tmp_path, architectures=ARCHITECTURES, install=False)
    assert again.read_bytes() == (build_folder / LIBRARY_NAME).read_bytes()
