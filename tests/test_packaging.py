"""What pip installs. The plugin is left out here; tests/plugin compiles it."""

import os
import subprocess
import sys
import zipfile
from email import message_from_bytes
from pathlib import Path

import pytest

from tests.processes import run_python
from tests.test_packages import ROOT, SIBLINGS


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation"]
    command += ["--no-index", "--wheel-dir", folder, ROOT]
    command += ["-C", "cmake.define.CODETR_BUILD_PLUGIN=OFF"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    [path] = folder.glob("*.whl")
    return path


def contents(wheel):
    """Names of the files, and of those of the metadata without their folder."""
    names = zipfile.ZipFile(wheel).namelist()
    metadata = {name for name in names if ".dist-info/" in name}
    return set(names) - metadata, {name.partition("/")[2] for name in metadata}


def test_a_wheel_without_the_plugin_holds_what_python_runs_only(wheel):
    modules = {path for package in SIBLINGS for path in (ROOT / package).rglob("*.py")}
    kernel = ROOT / "runtime" / "preprocess.cu"  # compiled where it runs
    files, metadata = contents(wheel)
    assert files == {path.relative_to(ROOT).as_posix() for path in modules | {kernel}}
    assert metadata == {"METADATA", "RECORD", "WHEEL", "licenses/LICENSE"}


def test_any_python_takes_the_wheel(wheel):
    assert wheel.stem.split("-")[2:4] == ["py3", "none"]


def test_the_version_is_the_one_that_exports_are_marked_with(wheel):
    with zipfile.ZipFile(wheel) as archive:
        [name] = (name for name in archive.namelist() if name.endswith("/METADATA"))
        version = message_from_bytes(archive.read(name))["Version"]
    assert f'\nVERSION = "{version}"\n' in (ROOT / "onnx_export" / "export.py").read_text()


def test_an_installed_wheel_runs_without_the_checkout(wheel, tmp_path):
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    code = "import plugin; print(plugin.__file__); plugin.library_path()"
    variables = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}
    # -S: without this environment's own packages, of which the checkout may be one.
    command = [sys.executable, "-S", "-c", code]
    done = subprocess.run(
        command, cwd=tmp_path, env=variables, capture_output=True, text=True, check=False
    )
    assert done.stdout == f"{tmp_path / 'site' / 'plugin' / '__init__.py'}\n"
    assert "UserError: the plugin is not built" in done.stderr


def run_backend(code, path, **variables):
    """Calls hooks of the build backend as pip does, with the tools of one folder."""
    code = f"from scikit_build_core.build import *\n{code}"
    return run_python(code, cwd=ROOT, env={"PATH": str(path), **variables})


def test_an_editable_install_is_the_checkout_and_needs_no_tool(tmp_path):
    """No cmake, no compiler, nothing to download."""
    code = f"assert get_requires_for_build_editable() == []\nbuild_editable({str(tmp_path)!r})"
    done = run_backend(code, tmp_path)
    assert done.returncode == 0, done.stderr
    [wheel] = tmp_path.glob("*.whl")
    files, _ = contents(wheel)
    assert {Path(name).suffix for name in files} == {".pth", ".py"}
    with zipfile.ZipFile(wheel) as archive:
        [pth] = (name for name in files if name.endswith(".pth"))
        assert str(ROOT) in archive.read(pth).decode().splitlines()


@pytest.mark.skipif(sys.platform != "linux", reason="the compiler on PyPI is for Linux")
@pytest.mark.parametrize("variables", [{}, {"CUDACXX": "/opt/cuda/bin/nvcc"}], ids=["", "CUDACXX"])
def test_a_wheel_build_fetches_the_compiler_unless_one_is_named(variables, tmp_path):
    done = run_backend("print(*get_requires_for_build_wheel())", tmp_path, **variables)
    assert done.returncode == 0, done.stderr
    assert "cmake>=3.24" in done.stdout
    assert ("nvidia-cuda-nvcc" in done.stdout) == (not variables)
