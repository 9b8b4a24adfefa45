"""Every name of TensorRT's that the code uses is there, in real 10.6, 11.2 and TensorRT-RTX.

The names are read off the sources, so a new use is checked without being listed. Nothing is built:
there is no GPU here.
"""

import ast
import json
import os
from pathlib import Path

import pytest

from plugin.build import ROOT
from tests.plugin.tensorrt_libraries import VERSIONS, environment
from tests.processes import run_python

PACKAGES = ("trt_build", "runtime", "plugin")
OWNERS = {
    "builder": "Builder",
    "config": "IBuilderConfig",
    "network": "INetworkDefinition",
    "parser": "OnnxParser",
    "optimization_profile": "IOptimizationProfile",
    "registry": "IPluginRegistry",
    "inspector": "EngineInspector",
    "self._runtime": "Runtime",
    "self._engine": "ICudaEngine",
    "self._context": "IExecutionContext",
}
"""What the code calls TensorRT's objects, and their classes."""
GUARDED = {"BuilderFlag.TF32"}
"""Asked for with ``hasattr`` first: TensorRT-RTX has no TF32."""
ONLY_RTX = {
    "ComputeCapability",
    "ComputeCapability.__members__",
    "IBuilderConfig.num_compute_capabilities",
    "IBuilderConfig.set_compute_capability",
}
"""Used for backends that build for other GPUs than this machine's."""
ONLY_TENSORRT = {"IBuilderConfig.plugins_to_serialize"}
"""Used with a plugin, which TensorRT-RTX does not run."""

CHECK = """
import functools, importlib, json, sys
trt = importlib.import_module(sys.argv[1])
def has(path):
    try:
        functools.reduce(getattr, path.split("."), trt)
    except AttributeError:
        return False
    return True
names = json.loads(sys.argv[2])
print(json.dumps([name for name in names if not has(name)]))
"""


def modules():
    """The syntax trees of all modules that deal with TensorRT."""
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            tree = ast.parse(path.read_text())
            if any(isinstance(node, ast.Name) and node.id == "trt" for node in ast.walk(tree)):
                yield path, tree


def used_names():
    """``BuilderFlag.TF32``, ``IBuilderConfig.set_flag`` …"""
    for _, tree in modules():
        for node in ast.walk(tree):
            if not isinstance(node, ast.Attribute):
                continue
            owner, _, name = ast.unparse(node).rpartition(".")
            root, _, rest = owner.partition(".")
            if root == "trt":
                yield f"{rest}.{name}" if rest else name
            elif owner in OWNERS:
                yield f"{OWNERS[owner]}.{name}"


NAMES = set(used_names())


@pytest.fixture(scope="module", params=[*VERSIONS, "rtx"])
def tensorrt(request):
    """Name of the module, and variables to import it with."""
    if request.param == "rtx":
        pytest.importorskip("tensorrt_rtx")
        return "tensorrt_rtx", {**os.environ, "PYTHONPATH": str(ROOT)}
    return "tensorrt", environment(request.param)


def missing(tensorrt, names):
    module, variables = tensorrt
    done = run_python(CHECK, module, json.dumps(sorted(names)), env=variables)
    assert done.returncode == 0, done.stderr[-2000:]
    return set(json.loads(done.stdout))


def test_all_names_are_there(tensorrt):
    absent = ONLY_TENSORRT | GUARDED if tensorrt[0] == "tensorrt_rtx" else ONLY_RTX
    assert missing(tensorrt, NAMES) <= absent


def test_a_name_that_is_not_there_would_be_found(tensorrt):
    gone = {"BuilderFlag.FP16", "ICudaEngine.max_batch_size", "IBuilderConfig.no_such_thing"}
    lasting = {"Builder.build_serialized_network", "TensorIOMode.INPUT"}
    assert lasting <= NAMES
    found = missing(tensorrt, gone | lasting)
    assert found >= {"ICudaEngine.max_batch_size", "IBuilderConfig.no_such_thing"}
    assert not found & lasting


def test_the_names_are_those_of_the_whole_interface():
    classes = {name.split(".")[0] for name in NAMES}
    assert classes >= {*OWNERS.values(), "BuilderFlag", "IProfiler", "ILogger", "Runtime"}


def test_lists_of_exceptions_name_nothing_that_is_not_used():
    assert GUARDED | ONLY_RTX | ONLY_TENSORRT <= NAMES


def is_number(node):
    return isinstance(node, ast.Constant) and type(node.value) is int


def test_enum_values_are_never_numbers():
    """A number means another flag in the next version: ``trt.BuilderFlag(7)``, ``set_flag(7)``."""
    for path, tree in modules():
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call) or not any(map(is_number, node.args)):
                continue
            called = ast.unparse(node.func)
            name = Path(path).relative_to(ROOT)
            assert not called.startswith("trt."), f"{name}: {ast.unparse(node)}"
            assert not called.endswith(("_flag", "_verbosity", "_limit")), f"{name}: {called}"
