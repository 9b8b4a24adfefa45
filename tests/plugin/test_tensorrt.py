"""The library in real TensorRT 10.6, 11.2 and TensorRT-RTX: loading, creators, fields."""

import json
import os
import textwrap
from pathlib import Path

import pytest

from plugin import OP_TYPES
from plugin.build import ROOT
from tests.plugin.tensorrt_libraries import VERSIONS, environment
from tests.processes import run_python

PRELUDE = """
import ctypes, importlib, json, os, shutil, sys
from pathlib import Path
module, library = sys.argv[1], Path(sys.argv[2])
trt = importlib.import_module(module)
from plugin import OP_TYPES, load
registry = trt.get_plugin_registry()
def known(): return [sum(each.name == name for each in registry.all_creators) for name in OP_TYPES]
def creator(name=OP_TYPES[0]): return registry.get_creator(name, "1", "")
def send_stderr_to(path):
    with path.open("w") as file:
        os.dup2(file.fileno(), 2)
"""


@pytest.fixture(scope="module", params=[*VERSIONS, "rtx"])
def tensorrt(request):
    """The module's name, the major version (None for TensorRT-RTX) and its environment."""
    if request.param == "rtx":
        pytest.importorskip("tensorrt_rtx")
        return "tensorrt_rtx", None, {**os.environ, "PYTHONPATH": str(ROOT)}
    return "tensorrt", int(request.param.split(".")[0]), environment(request.param)


@pytest.fixture
def run(tensorrt, build_folder):
    """Runs code with that TensorRT in a process of its own; returns what it printed as JSON."""
    module, _, variables = tensorrt

    def run_code(code):
        library = build_folder / "libcodetr_plugin.so"
        done = run_python(PRELUDE + textwrap.dedent(code), module, library, env=variables)
        assert done.returncode == 0, done.stderr[-2000:]
        return json.loads(done.stdout.splitlines()[-1])

    return run_code


@pytest.fixture
def registers_itself(tensorrt, build_folder):
    """Whether this TensorRT has the major version of the headers that the build found."""
    cache = (build_folder / "CMakeCache.txt").read_text()
    headers = next(line for line in cache.splitlines() if line.startswith("TENSORRT_INCLUDE_DIR"))
    version = Path(headers.split("=", 1)[1], "NvInferVersion.h").read_text()
    words = [line.split() for line in version.splitlines()]
    majors = {w[1]: w[2] for w in words if len(w) > 2 and w[0] == "#define" and "MAJOR" in w[1]}
    major = majors["NV_TENSORRT_MAJOR"]
    return int(majors.get(major, major)) == tensorrt[1]


def test_load_is_idempotent(run):
    code = "load(trt, library); load(trt, library); print(json.dumps(known()))"
    assert run(code) == [1] * len(OP_TYPES)


def test_dlopen_registers_in_the_major_it_was_compiled_for(run, registers_itself):
    code = "ctypes.CDLL(library); print(json.dumps([known(), creator() is not None]))"
    assert run(code) == [[int(registers_itself)] * len(OP_TYPES), registers_itself]


@pytest.mark.parametrize("first", ["load", "dlopen", "load_library"])
@pytest.mark.parametrize("second", ["load", "dlopen", "load_library", "copy"])
def test_loading_twice_by_any_two_routes_is_harmless(run, first, second, tmp_path):
    result = run(f"""
        def copy(path):
            registry.load_library(shutil.copy(path, {str(tmp_path / "copy.so")!r}))
        routes = {{
            "load": lambda path: load(trt, path),
            "dlopen": ctypes.CDLL,
            "load_library": lambda path: registry.load_library(str(path)),
            "copy": copy,
        }}
        routes[{first!r}](library)
        routes[{second!r}](library)
        load(trt, library)
        fields = [[field.name for field in creator(name).field_names] for name in OP_TYPES]
        print(json.dumps([known(), fields]))
    """)
    assert result == [
        [1] * len(OP_TYPES),
        [
            ["num_heads", "num_points"],
            ["window_size", "shift", "add_bias"],
            ["num_groups"],
            ["activation"],
            ["activation"],
            [],
            ["window_size", "shift", "add_bias"],
            [],
            *[["activation"]] * 3,
            [],
            [],
        ],
    ]


CREATE = """
import numpy as np
load(trt, library)
def field(name, value, kind=trt.PluginFieldType.INT32, dtype=np.int32):
    return trt.PluginField(name, np.array(value, dtype), kind)
def make(*fields, name=OP_TYPES[0]):
    collection = trt.PluginFieldCollection(list(fields))
    return creator(name).create_plugin("a layer", collection, trt.TensorRTPhase.BUILD) is not None
heads, points = field("num_heads", [8]), field("num_points", [4])
real = field("num_heads", [8], trt.PluginFieldType.FLOAT32, np.float32)
"""


def test_create_plugin(run):
    result = run(
        CREATE
        + """
print(json.dumps([
    make(heads, points), make(points, heads),
    make(), make(heads), make(heads, heads), make(heads, points, points),
    make(field("num_heads", [0]), points), make(field("num_heads", [8, 8]), points),
    make(real, points), make(field("heads", [8]), points),
    make(name="CoDetrLayerNorm"), make(heads, name="CoDetrLayerNorm"),
]))
"""
    )
    assert result == [True, True, *[False] * 8, True, False]


def test_a_plugin_that_is_not_created_says_why(run, tmp_path):
    result = run(
        CREATE
        + f"""
said = Path({str(tmp_path / "stderr")!r})
send_stderr_to(said)
make(heads, points), make(heads), make(field("num_heads", [0]), points), make(real, points)
print(json.dumps(said.read_text().splitlines()))
"""
    )
    assert result == [
        "CoDetrMSDeformAttn 'a layer': attribute num_points is missing",
        "CoDetrMSDeformAttn 'a layer': attribute num_heads is 0; wanted a positive number",
        "CoDetrMSDeformAttn 'a layer': attribute num_heads is float32; wanted int32",
    ]


def test_the_parser_says_the_node_whose_attribute_is_wrong(run, tensorrt, tmp_path):
    if tensorrt[0] != "tensorrt_rtx":
        pytest.skip("TensorRT makes no parser where there is no GPU")
    onnx = pytest.importorskip("onnx")
    attributes = {"num_heads": 8.0, "num_points": 4, "plugin_version": "1", "plugin_namespace": ""}
    inputs = [onnx.helper.make_tensor_value_info(name, 1, [1, 2, 3]) for name in "abcde"]
    node = onnx.helper.make_node(
        "CoDetrMSDeformAttn", "abcde", ["out"], "encoder/0", domain="codetr", **attributes
    )
    output = onnx.helper.make_tensor_value_info("out", 1, [1, 2, 3])
    opsets = [onnx.helper.make_opsetid("", 17), onnx.helper.make_opsetid("codetr", 1)]
    graph = onnx.helper.make_graph([node], "graph", inputs, [output])
    model = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=9)
    onnx.save(model, tmp_path / "model.onnx")
    result = run(f"""
        said = Path({str(tmp_path / "stderr")!r})
        load(trt, library)
        logger = trt.Logger(trt.Logger.Severity.INTERNAL_ERROR)
        builder = trt.Builder(logger)
        network = builder.create_network()
        parser = trt.OnnxParser(network, logger)
        send_stderr_to(said)
        parsed = parser.parse_from_file({str(tmp_path / "model.onnx")!r})
        print(json.dumps([parsed, said.read_text().splitlines()[0]]))
    """)
    wrong = "CoDetrMSDeformAttn 'encoder/0': attribute num_heads is float32; wanted int32"
    assert result == [False, wrong]


def test_a_library_that_is_none_is_refused(run, tmp_path):
    wrong = tmp_path / "wrong.so"
    wrong.write_text("not a library")
    result = run(f"""
        from runtime.errors import UserError
        try:
            load(trt, Path({str(wrong)!r}))
        except UserError as error:
            print(json.dumps(str(error)))
    """)
    assert "cannot load the plugin library" in result
    assert str(wrong) in result
