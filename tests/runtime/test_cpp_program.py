"""codetr_inference where there is no GPU: its options, its mistakes, and CMake's messages."""

import hashlib
import re
from pathlib import Path

import pytest

from tests.conftest import has_gpu
from tests.runtime.cpp_program import configure
from tests.runtime.test_cpp_pictures import RECIPE, write_engine
from tests.synthetic_images import picture


@pytest.fixture
def error(programs):
    """Runs the program with options that it refuses; returns what it says, less its name."""

    def run(*arguments):
        done = programs.run(programs.inference, *arguments)
        assert (done.returncode, done.stdout) == (2, b"")
        name, said = done.stderr.decode().split(": error: ")
        assert name == "codetr_inference"
        assert said.count("\n") == 1
        return said.removesuffix("\n")

    return run


@pytest.fixture
def photo(tmp_path):
    from runtime.images import write_image

    write_image(tmp_path / "photo.png", picture(40, 60, 1))
    return tmp_path / "photo.png"


def test_help(programs):
    done = programs.run(programs.inference, "--model", "m.engine", "--help")
    assert done.returncode == 0
    options = set(re.findall(r"^  (--[a-z-]+)", done.stdout.decode(), re.MULTILINE))
    wanted = "model input output target-height target-width score-threshold benchmark-iterations"
    assert options == {f"--{name}" for name in [*wanted.split(), "json", "help"]}


NEEDED = ("--model", "m.engine", "--input", "photos", "--output", "out")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "--model and --input are needed; see --help"),
        (NEEDED[:4], "--output is needed, or --benchmark-iterations to measure only"),
        (("--modle", "m"), "there is no option --modle; see --help"),
        (("photo.png",), "there is no option photo.png; see --help"),
        (("--model",), "--model takes a value; see --help"),
        (("--score-threshold=1.5",), "--score-threshold must be a number from 0 to 1, got 1.5"),
        (("--score-threshold", "nan"), "--score-threshold must be a number from 0 to 1, got nan"),
        (("--target-width", "64px"), "--target-width takes a whole number from 1 up, got 64px"),
        (("--target-height", "-1"), "--target-height takes a whole number from 1 up, got -1"),
        ((*NEEDED, "--json", "a"), "--json takes what --benchmark-iterations measures; give both"),
        (NEEDED, "no model file m.engine; give an engine"),
    ],
)
def test_mistakes(error, monkeypatch, tmp_path, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert error(*arguments) == message


def test_a_folder_without_pictures(error, tmp_path):
    (tmp_path / "in").mkdir()
    said = error("--model", "m", "--input", tmp_path / "in", "--output", tmp_path / "out")
    assert said.startswith(f"no pictures in folder {tmp_path / 'in'}; looked for")
    assert not (tmp_path / "out").exists()


def test_an_output_that_cannot_be_made(error, photo):
    said = error("--model", "m", "--input", photo, "--output", photo / "out")
    assert said == f"cannot write to folder {photo / 'out'}; choose another with --output"


def test_versions_then_the_gpu(error, tmp_path, photo):
    engine = write_engine(tmp_path)
    arguments = ("--model", engine, "--input", photo, "--output", tmp_path / "out")
    other = RECIPE | {"backend_version": "9.8.7", "options": {}}
    write_engine(tmp_path, recipe=other)
    found = re.fullmatch(
        f"{engine} was built by TensorRT 9.8.7 and (.*) is installed; build it again, or install "
        "TensorRT 9.8.7",
        error(*arguments),
    )
    assert found
    major, minor, patch = found[1].split(".")
    same = RECIPE | {"backend_version": found[1] + ".42", "options": {}}
    write_engine(tmp_path, recipe=same)
    here = "TensorRT cannot load" if has_gpu() else "found no NVIDIA GPU ("
    assert error(*arguments).startswith(here)
    # A later release runs the engine only if that was asked for when it was built.
    earlier = RECIPE | {"backend_version": f"{major}.0.0", "options": {}}
    write_engine(tmp_path, recipe=earlier)
    assert "was built by" in error(*arguments)
    compatible = {"options": {"version_compatible": True}}
    write_engine(tmp_path, recipe=earlier | compatible)
    assert error(*arguments).startswith(here)
    later = f"{major}.{int(minor) + 1}.{patch}"
    write_engine(tmp_path, recipe=earlier | compatible | {"backend_version": later})
    assert "was built by" in error(*arguments)


def test_an_engine_that_its_manifest_does_not_describe(error, tmp_path, photo):
    engine = write_engine(tmp_path)
    arguments = ("--model", engine, "--input", photo, "--output", tmp_path / "out")
    version = re.search(r"and ([\d.]+) is installed", error(*arguments))[1]
    write_engine(tmp_path, recipe=RECIPE | {"backend_version": version, "options": {}})
    engine.write_bytes(b"another")
    found, wanted = hashlib.sha256(b"another").hexdigest(), hashlib.sha256().hexdigest()
    assert error(*arguments) == (
        f"{engine} is not the engine that its manifest describes: its SHA-256 is {found[:12]}…, "
        f"not {wanted[:12]}…; build it again"
    )


@pytest.fixture
def configuring(programs, tmp_path):
    """Configures with other variables; returns CMake's error on one line."""

    def run(*switches, **changes):
        variables = {key: v for key, v in (programs.environment | changes).items() if v}
        done = configure(tmp_path / "build", variables, *switches)
        assert done.returncode != 0
        return " ".join(done.stderr.split())

    return run


OFF = "or leave the program out with -DCODETR_BUILD_INFERENCE=OFF"


def test_configuring_without_opencv(configuring):
    said = configuring("-DCMAKE_DISABLE_FIND_PACKAGE_OpenCV=ON")
    assert "found no OpenCV; install it (Debian: apt-get install libopencv-dev) or name" in said
    assert OFF in said


def test_headers_of_another_major_version(configuring, tmp_path):
    (tmp_path / "NvInferRuntime.h").touch()
    (tmp_path / "NvInferVersion.h").write_text("#define NV_TENSORRT_MAJOR 99 //!< major\n")
    said = configuring(TENSORRT_INCLUDE_DIR=str(tmp_path))
    assert f"found no libnvinfer.so.99 to go with the headers in {tmp_path}; name its" in said
    assert OFF in said


@pytest.mark.skipif(Path("/usr/local/cuda").exists(), reason="CUDA is found anyway")
def test_configuring_without_cuda(configuring):
    said = configuring("-DCMAKE_PREFIX_PATH=", CUDA_HOME="", CUDA_PATH="")
    assert "found no CUDA runtime (crt/host_defines.h, libcudart_static.a); install" in said
    assert OFF in said
