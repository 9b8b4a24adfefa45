"""Compiles the plugin: finds or fetches the CUDA compiler, then runs CMake."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import tempfile
import tomllib
from importlib.util import find_spec
from pathlib import Path

from plugin.library import LIBRARY_NAME
from runtime.errors import UserError
from runtime.files import atomic_output

ROOT = Path(__file__).parents[1]


def build_plugin(
    folder: Path = ROOT / "build" / "plugin",
    *,
    architectures: str | None = None,
    tests: bool = False,
    install: bool = True,
) -> Path:
    """Compile the plugin; only what changed since the last time.

    Args:
        folder: CMake's build folder.
        architectures: compute capabilities as CMake writes them, ``"90"`` or ``"80;86-real"``.
            ``None`` takes all that TensorRT and the compiler support.
        tests: also build what the tests call the kernel and the plugin through.
        install: put the library into the package, where :func:`plugin.load` finds it.

    Returns:
        The library's path.

    Raises:
        UserError: a tool is missing or fails; what it said went to stderr.
    """
    if not (ROOT / "CMakeLists.txt").is_file():
        raise UserError(f"{ROOT} is no checkout of the sources; build the plugin in one")
    _require_tools()
    _require_writable(folder)
    configure = ["cmake", f"-S{ROOT}", f"-B{folder}", "-DCMAKE_BUILD_TYPE=Release"]
    configure += [f"-DCODETR_BUILD_TESTS={'ON' if tests else 'OFF'}"]
    if shutil.which("ninja") is not None:
        configure += ["-G", "Ninja"]
    if architectures is None:
        configure += ["-UCODETR_CUDA_ARCHITECTURES"]  # an earlier build may have named some
    else:
        configure += [f"-DCODETR_CUDA_ARCHITECTURES={architectures}"]
    _run(*configure, *cuda_switches(), f"-DCODETR_CUBLASLT_INCLUDE_DIR={_cublaslt_headers() or ''}")
    _run("cmake", "--build", folder, "--parallel")
    if not install:
        return folder / LIBRARY_NAME
    library = ROOT / "plugin" / LIBRARY_NAME
    with atomic_output(library) as output:  # a process that has the old one loaded keeps it
        shutil.copyfile(folder / LIBRARY_NAME, output)
    return library


def cuda_switches() -> list[str]:
    """What CMake has to be told to find CUDA; fetches it where no toolkit is installed."""
    if _has_nvcc():
        return []
    return [f"-DCMAKE_PREFIX_PATH={_fetch_nvcc(ROOT / 'build' / 'cuda')}"]


def _cublaslt_headers() -> Path | None:
    """Those of an installed ``nvidia-cublas``, as PyTorch brings it along; for want of a toolkit's.

    They are not fetched: with them come 500 MB of library, for an operator few exports ask for.
    """
    package = find_spec("nvidia")
    folders = package.submodule_search_locations if package else None
    headers = (Path(folder, "cu13", "include", "cublasLt.h") for folder in folders or ())
    return next((file.parent for file in headers if file.is_file()), None)


def _require_tools() -> None:
    """The compilers are looked for by CMake."""
    if shutil.which("cmake") is None:
        raise UserError("found no cmake; install it: pip install cmake ninja")
    if shutil.which("ninja") is None and shutil.which("make") is None:
        raise UserError("found neither ninja nor make; install one: pip install ninja")


def _require_writable(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise UserError(
            f"cannot write {folder}: {error.strerror}; build in a checkout that can be written"
        ) from error


def _has_nvcc() -> bool:
    """Whether CMake will find a compiler by itself (see cmake/FindNvcc.cmake)."""
    homes = [os.environ.get("CUDA_HOME"), os.environ.get("CUDA_PATH"), "/usr/local/cuda"]
    path = os.pathsep.join([os.environ.get("PATH", ""), *(f"{home}/bin" for home in homes if home)])
    return "CUDACXX" in os.environ or shutil.which("nvcc", path=path) is not None


def _fetch_nvcc(folder: Path) -> Path:
    """Install NVIDIA's compiler from PyPI into a folder of its own; returns it.

    PyTorch pins other versions of the same packages, so they cannot share an environment.
    """
    if (folder / "nvidia" / "cu13" / "bin" / "nvcc").is_file():
        return folder
    if (platform.system(), platform.machine()) not in {("Linux", "x86_64"), ("Linux", "aarch64")}:
        raise UserError(f"the plugin builds on Linux only, this is {platform.system()}")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    overrides = project["tool"]["scikit-build"]["overrides"]
    wheels = next(override["build"]["requires"] for override in overrides if "build" in override)
    print(f"fetching the CUDA compiler into {folder} (270 MB)", file=sys.stderr)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]
    _require_writable(folder.parent)
    with tempfile.TemporaryDirectory(dir=folder.parent) as parent:  # all of it or nothing
        complete = Path(parent, folder.name)
        _run(*pip, "--target", complete, *wheels)
        shutil.rmtree(folder, ignore_errors=True)
        complete.rename(folder)
    return folder


def _run(*command: str | Path) -> None:
    """Run a tool; its output goes to stderr, since stdout is for results."""
    done = subprocess.run(command, stdout=sys.stderr.fileno(), check=False)
    if done.returncode != 0:
        line = " ".join(map(str, command[:3]))
        raise UserError(f"{line} … failed with exit code {done.returncode}; see above")
