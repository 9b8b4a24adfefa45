"""codetr_inference and the program that tests its parts, compiled for the tests."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from plugin.build import ROOT, cuda_switches
from tests.plugin.conftest import missing_tools
from tests.plugin.tensorrt_libraries import environment

_JARS = (
    "org.bytedeco:opencv:4.13.0-1.5.13:jar:linux-x86_64",
    # OpenCV's core wants it.
    "org.bytedeco:openblas:0.3.31-1.5.13:jar:linux-x86_64",
)
_LIBRARIES = ("libopencv_", "libopenblas.", "libgfortran.", "libquadmath.")


@dataclass(frozen=True)
class Programs:
    """The compiled programs, and the variables that they run with."""

    inference: Path
    check: Path
    environment: dict[str, str]

    def run(self, program: Path, *arguments, data=b""):
        command = [program, *map(str, arguments)]
        return subprocess.run(
            command,
            input=data,
            env=self.environment,
            capture_output=True,
            timeout=120,
            check=False,
        )


def build_programs() -> Programs:
    """Compile both; only what changed since the last time. Skips where something is missing.

    OpenCV is what ``OpenCV_DIR`` names, TensorRT what ``TENSORRT_LIB_DIR`` and
    ``TENSORRT_INCLUDE_DIR`` name; both come from Maven otherwise.
    """
    if missing := missing_tools():
        pytest.skip(f"codetr_inference cannot be compiled without {', '.join(missing)}")
    variables = dict(os.environ)
    if "OpenCV_DIR" not in variables:
        library = opencv_folder() / "lib"
        variables["OpenCV_DIR"] = str(library / "cmake" / "opencv4")
        # For OpenBLAS, which the libraries themselves do not find.
        variables["LD_LIBRARY_PATH"] = f"{library}:{variables.get('LD_LIBRARY_PATH', '')}"
    if not {"TENSORRT_LIB_DIR", "TENSORRT_INCLUDE_DIR"} & variables.keys():
        variables["TENSORRT_LIB_DIR"] = environment("11.2")["LD_LIBRARY_PATH"]
    folder = ROOT / "build" / "inference-tests"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:  # pytest-xdist runs several sessions at once
        fcntl.flock(lock, fcntl.LOCK_EX)
        configured = configure(folder, variables, "-DCODETR_BUILD_TESTS=ON")
        assert configured.returncode == 0, configured.stderr
        subprocess.run(["cmake", "--build", folder], env=variables, check=True)
    built = folder / "runtime" / "cpp"
    return Programs(built / "codetr_inference", built / "codetr_pictures_check", variables)


def configure(folder, variables, *switches):
    """Run CMake for the program alone."""
    command = ["cmake", f"-S{ROOT}", f"-B{folder}", "-DCMAKE_BUILD_TYPE=Release"]
    command += ["-DCODETR_BUILD_PLUGIN=OFF", "-DCODETR_BUILD_INFERENCE=ON"]
    command += [*cuda_switches(), *switches]
    return subprocess.run(command, env=variables, capture_output=True, text=True, check=False)


def opencv_folder():
    """OpenCV for C++ from Maven: ``include`` and ``lib``; fetched the first time."""
    folder = ROOT / "build" / "opencv"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / "opencv.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "complete").exists():
            _fetch(folder)
    return folder


def _fetch(folder):
    if shutil.which("mvn") is None:
        pytest.skip("found no OpenCV for C++: OpenCV_DIR is not set, and no mvn to fetch it with")
    shutil.rmtree(folder, ignore_errors=True)
    for artifact in _JARS:
        copy = ["mvn", "-q", "dependency:copy", f"-Dartifact={artifact}"]
        subprocess.run([*copy, f"-DoutputDirectory={folder}"], check=True, cwd=folder.parent)
    for jar in folder.glob("*.jar"):
        with zipfile.ZipFile(jar) as archive:
            for name in archive.namelist():
                _extract(archive, name, folder)
        jar.unlink()
    (folder / "complete").touch()


def _extract(archive, name, folder):
    """One file of a jar to where OpenCV's own installation has it."""
    parts = name.split("/")[4:]  # without org/bytedeco/opencv/linux-x86_64
    if name.endswith("/") or not parts:
        return
    if parts[0].startswith(_LIBRARIES) and not parts[0].endswith(".so"):  # that one is of Java
        path = folder / "lib" / parts[0]
    elif parts[:2] == ["include", "opencv4"] or parts[0] == "lib":
        path = folder.joinpath(*parts)
    else:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with archive.open(name) as source, path.open("wb") as target:
        shutil.copyfileobj(source, target)
    if path.name.startswith("libopencv"):  # libopencv_core.so.413, and the name CMake looks for
        path.with_suffix("").symlink_to(path.name)
