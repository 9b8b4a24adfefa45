"""Who may import what, and commands that explain themselves on a bare machine."""

import ast
import sys
import textwrap
from pathlib import Path

import pytest

from tests.processes import run_python

ROOT = Path(__file__).parents[1]

SIBLINGS = {
    "codetr": set(),
    "plugin": {"runtime"},
    "onnx_export": {"codetr"},
    "trt_build": {"runtime", "plugin"},
    "runtime": set(),
}
"""Packages of this repository that each of them may import."""
THIRD_PARTY = {
    "codetr": {
        "torch",
        "numpy",
        "safetensors",
        # training alone
        "scipy",
        "sklearn",
        "pycocotools",
        "cv2",
        "rich",
        "triton",
    },
    "plugin": {"numpy"},
    "onnx_export": {
        "torch",
        "numpy",
        "onnx",
        "onnx_ir",
        "onnxscript",
        "onnx_graphsurgeon",
        "onnxruntime",
        "safetensors",
        "cv2",
    },
    "trt_build": {
        "tensorrt",
        "tensorrt_rtx",
        "polygraphy",
        "onnx",
        "onnxruntime",
        "numpy",
        "rich",
        "google",
    },
    "runtime": {
        "tensorrt",
        "tensorrt_rtx",
        "cuda",
        "onnxruntime",
        "numpy",
        "cv2",
        "rich",
        "pycocotools",
        "av",
        "pandas",
        "supervision",
        "ray",
        "triton_python_backend_utils",  # inside Triton alone
    },
}
HEAVY = (
    "torch",
    "numpy",
    "onnx",
    "onnxruntime",
    "tensorrt",
    "tensorrt_rtx",
    "polygraphy",
    "cuda",
    "cv2",
    "rich",
    "pycocotools",
    "av",
    "ray",
)
COMMANDS = (
    ["benchmarks.damage", "--help"],
    ["benchmarks.faults", "--help"],
    ["benchmarks.gpu", "--help"],
    ["codetr.training.dataset", "--help"],
    ["codetr.training.train", "--help"],
    ["plugin", "--help"],
    ["onnx_export", "--help"],
    ["trt_build", "--help"],
    ["trt_build", "inspect", "--help"],
    ["trt_build", "polygraphy", "--help"],
    ["trt_build", "verify", "--help"],
    ["runtime", "--help"],
    ["runtime", "bench", "--help"],
    ["runtime", "detect", "--help"],
    ["runtime", "eval", "--help"],
    ["runtime", "triton-repo", "--help"],
)


def imports(source):
    """Top-level packages that a module imports anywhere in it, lazily or for types too."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=names):
                yield from (name.name.partition(".")[0] for name in names)
            case ast.ImportFrom(level=0, module=module):
                yield module.partition(".")[0]
            case ast.ImportFrom():
                yield "relative import"


def test_imports_are_found_wherever_they_are():
    source = "import a.b\nfrom c.d import e\ndef f():\n  import g as h\n  from .i import j\n"
    assert list(imports(source)) == ["a", "c", "g", "relative import"]


@pytest.mark.parametrize("package", SIBLINGS)
def test_import_table(package):
    allowed = sys.stdlib_module_names | {package} | SIBLINGS[package] | THIRD_PARTY[package]
    files = sorted((ROOT / package).rglob("*.py"))
    found = {f"{f.relative_to(ROOT)}: {name}" for f in files for name in imports(f.read_text())}
    assert files
    assert {line for line in found if line.split(": ")[1] not in allowed} == set()


def test_every_package_is_in_the_table():
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    packages -= {"tests", "benchmarks"}
    assert packages == SIBLINGS.keys()


def test_arrows_never_point_back():
    def reachable(package):
        return SIBLINGS[package].union(*map(reachable, SIBLINGS[package]))

    assert all(package not in reachable(package) for package in SIBLINGS)


def run_bare(code, *arguments):
    """Run code where nothing heavy can be imported."""
    block = f"import sys; sys.modules |= dict.fromkeys({HEAVY})\n"
    return run_python(block + textwrap.dedent(code), *arguments, cwd=ROOT)


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help_is_fast_and_needs_no_installed_package(command):
    code = """
        import runpy, time
        start = time.perf_counter()
        try:
            runpy.run_module(sys.argv.pop(1), run_name="__main__", alter_sys=True)
        finally:
            print(time.perf_counter() - start)
    """
    done = run_bare(code, *command)
    assert done.returncode == 0, done.stderr
    *help_text, seconds = done.stdout.splitlines()
    assert f"python -m {command[0]}" in help_text[0]
    assert "example" in done.stdout.lower()
    assert float(seconds) < 1


@pytest.mark.parametrize("module", [*SIBLINGS, "codetr.presets", "runtime.errors", "runtime.files"])
def test_import_needs_no_installed_package(module):
    done = run_bare(f"import {module}")
    assert done.returncode == 0, done.stderr


def test_what_is_blocked_cannot_be_imported():
    done = run_bare("import runtime; runtime.Detector")
    assert "import of numpy halted" in done.stderr  # or the tests above prove nothing
