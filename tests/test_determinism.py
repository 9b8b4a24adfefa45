"""``python -m benchmarks.determinism`` in ONNX Runtime, and what it shows of a graph."""

from __future__ import annotations

import json
import tempfile
import threading
import time
from itertools import product

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import helper

from benchmarks import determinism
from benchmarks.determinism import main, repeat, sentence
from benchmarks.subjects import Subject, engines, inputs_of, sessions, show_inside
from runtime.errors import UserError
from runtime.manifest import read_manifest
from tests.conftest import has_gpu
from tests.runtime.tiny_model import metadata, save_tiny_model
from trt_build.backend import BACKENDS

SWIN = {"preset": "co_dino_swin_tiny", "height": 160, "width": 224, "precision": "fp32"}

# Four of 144 numbers become queries.
TINY = """<ir_version: 10, opset_import: ["": 17]>
tiny (float[1,3,48,64] batch_inputs) => (float[1,4,4] boxes, float[1,4] scores, int64[1,4] labels)
<int64[1] four = {4}, int64[2] flat = {1, 144}, int64[1] last = {2}, float[1,4] row = {1, 2, 3, 4}>
{
    means = AveragePool<kernel_shape = [8, 8], strides = [8, 8]>(batch_inputs)
    level = Neg(means)
    tokens = Reshape(level, flat)
    memory = Mul(tokens, tokens)
    values, chosen = TopK(memory, four)
    query = Exp(values)
    scores = Softmax(query)
    column = Unsqueeze(scores, last)
    boxes = Mul(column, row)
    labels = Sub(chosen, chosen)
}"""
STAGES = {
    "backbone": ["means"],
    "neck": ["level"],
    "memory": ["memory"],
    "topk": "chosen",
    "decoder": ["query"],
}
IN_ORDER = [
    *("backbone", "neck", "memory", "chosen tokens", "topk values", "decoder"),
    *("scores", "labels", "boxes"),
]


@pytest.fixture
def tiny(tmp_path):
    """A model that is exported in appearance."""
    model = onnx.shape_inference.infer_shapes(onnx.parser.parse_model(TINY))
    (topk,) = [node for node in model.graph.node if node.op_type == "TopK"]
    topk.name = "topk"
    entry = {"height": 48, "width": 64, "batch": 1, "mask": False, "stages": STAGES}
    helper.set_model_props(model, {"codetr": metadata(**entry)})
    onnx.save(model, tmp_path / "tiny.ref.onnx")
    return tmp_path / "tiny.ref.onnx"


@pytest.fixture
def rows_of(tmp_path):
    """Run the command in ONNX Runtime; returns exit code and rows."""

    def run(model, runs=20):
        output = tmp_path / "determinism.json"
        options = ("--backend", "onnxruntime", "--runs", str(runs), "--output", str(output))
        code = main([str(model), *options])
        return code, json.loads(output.read_text())["rows"]

    return run


def noisy(path, tensor, result):
    """A copy of a model in which noise is added to a tensor where it is computed."""
    model = onnx.load(path)
    nodes = model.graph.node
    ((index, node),) = [(i, n) for i, n in enumerate(nodes) if tensor in n.output]
    node.output[list(node.output).index(tensor)] = "clean"
    nodes.insert(index + 1, helper.make_node("RandomNormalLike", ["clean"], ["noise"], scale=1e-3))
    nodes.insert(index + 2, helper.make_node("Add", ["clean", "noise"], [tensor]))
    onnx.save(model, result)
    return result


def counts(row):
    return {tensor["name"]: tensor["differing_runs"] for tensor in row["tensors"]}


def test_the_same_bits(rows_of, tiny, capsys):
    code, rows = rows_of(tiny)
    assert code == 0
    variants = [(row["shown"], row["calls"]) for row in rows]
    assert variants == [(False, 1), (False, 2), (True, 1), (True, 2)]
    assert all(row["runs"] == 20 and row["first_to_differ"] is None for row in rows)
    assert counts(rows[0]) == dict.fromkeys(("boxes", "scores", "labels"), 0)
    assert sorted(counts(rows[2])) == sorted(IN_ORDER)
    assert list(counts(rows[2]))[:6] == IN_ORDER[:6]
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "other bits or NaN in 0 of 4 rows, first nowhere"


def test_the_first_tensor_that_differs_is_found(rows_of, tiny, tmp_path, capsys):
    code, rows = rows_of(noisy(tiny, "level", tmp_path / "noisy.ref.onnx"))
    assert code == 1
    for row in rows:
        assert row["first_to_differ"] == ("neck" if row["shown"] else "boxes")
        assert row["first_with_nan"] is None
    found = counts(rows[2])
    assert found["backbone"] == found["labels"] == 0
    assert (
        found["neck"] == found["memory"] == found["boxes"] == 18
    )  # of 20, but the first of each picture
    (neck,) = [tensor for tensor in rows[2]["tensors"] if tensor["name"] == "neck"]
    assert 1e-3 < neck["largest_difference"] < 1e-2
    lines = capsys.readouterr().out.splitlines()
    assert "shown True, calls 1: 20 runs in " in lines[2]
    assert "first to differ neck, in 18 runs by up to " in lines[2]
    assert lines[-1] == "other bits or NaN in 4 of 4 rows, first boxes, neck"


def test_the_stages_of_a_real_model(exported, tmp_path):
    reference = exported(**SWIN, stable=True).reference
    wide, tall = inputs_of(reference)
    for feeds in (wide, tall):
        assert feeds["batch_inputs"].shape == (1, 3, 160, 224)
        assert feeds["img_masks"].mean() == 0.5
    entries = {p.key: p.value for p in onnx.load(reference).metadata_props}
    tensor = json.loads(entries["codetr"])["stages"]["neck"][2]
    model, labels = show_inside(noisy(reference, tensor, tmp_path / "noisy.ref.onnx"))
    names = list(labels.values())
    kinds = ("backbone", "neck", "memory", "decoder", "detector/TopK")
    assert [sum(name.startswith(kind) for name in names) for kind in kinds] == [4, 5, 1, 3, 5]
    order = ["backbone 0", "memory", "detector/TopK input", "chosen tokens", "decoder 0"]
    order += ["decoder 2", "detector/TopK_2 input", "detector/TopK_2 indices", "boxes"]
    assert [name for name in names if name in order] == order

    onnx.save(model, tmp_path / "shown.onnx")
    (subject,) = sessions(tmp_path / "shown.onnx")
    row = repeat(subject, [wide], labels, 1, range(2))
    assert row["first_to_differ"] == "neck 2"
    found = counts(row)
    for same in ("backbone 0", "backbone 3", "neck 1", "neck 3", "neck 4"):
        assert found[same] == 0, same
    for later in ("memory", "detector/TopK input", "decoder 2", "boxes"):
        assert found[later] == 1, later


@pytest.mark.skipif(has_gpu(), reason="TensorRT-RTX would run the engine")
def test_what_is_shown_can_be_built(tiny, tmp_path):
    """By the parser that TensorRT shares; the engine runs on a GPU only."""
    model, labels = show_inside(tiny)
    onnx.save(model, tmp_path / "shown.onnx")
    with pytest.raises(UserError, match="runs on an NVIDIA GPU"):
        next(engines(tmp_path / "shown.onnx", tmp_path, BACKENDS["tensorrt-rtx"], None))
    built = read_manifest(tmp_path / "shown-None.engine")
    outputs = {tensor["name"]: tensor for tensor in built["io"] if tensor["mode"] == "output"}
    assert outputs.keys() == labels.keys()
    assert outputs["chosen"]["dtype"] == "int64"


def of(*series, **named):
    """A variant whose runs put out these arrays, one after the other."""
    series = named or {"x": series}
    runs = iter(zip(*series.values(), strict=True))
    return Subject(lambda _feeds: dict(zip(series, next(runs), strict=True)), dict)


def count(subject, labels=("x",), runs=3, calls=1):
    return repeat(subject, [{}], {name: f"the {name}" for name in labels}, calls, range(runs))


def floats(*values):
    return np.array(values, np.float32)


def test_runs_are_compared_with_the_first_one():
    a, b, c = floats(1, 2), floats(1, 2.5), floats(-3, 2)
    row = count(of(x=[a, a, a, a], y=[a, b, a, c], z=[b, c, c, b]), ("x", "y", "z"), runs=4)
    assert row["first_to_differ"] == "the y"
    assert [t["differing_runs"] for t in row["tensors"]] == [0, 2, 2]
    assert [t["largest_difference"] for t in row["tensors"]] == [0, 4, 4]
    assert row["runs"] == 4
    assert "first to differ the y, in 2 runs by up to 4.0e+00" in sentence({"shown": True, **row})


def test_each_picture_is_compared_with_itself():
    inputs = [{"x": floats(1)}, {"x": floats(2)}]
    row = repeat(Subject(lambda feeds: feeds, dict), inputs, {"x": "the x"}, 2, range(6))
    assert row["first_to_differ"] is None
    a, b = (feeds["x"] for feeds in inputs)
    row = repeat(of(a, b, a, a, a, b), inputs, {"x": "the x"}, 1, range(6))
    assert row["tensors"][0]["differing_runs"] == 1  # the fourth, which got the other's


def test_the_sign_of_zero_is_a_bit():
    row = count(of(floats(0), floats(-0.0), floats(0)))
    assert row["tensors"][0]["differing_runs"] == 1
    assert row["tensors"][0]["largest_difference"] == 0


def test_nan_is_counted_whether_it_differs_or_not():
    nan, one, infinite = floats(np.nan, 1), floats(5, 1), floats(np.inf, 3)
    always = count(of(nan, nan, nan))
    assert always["first_with_nan"] == "the x" and always["first_to_differ"] is None
    assert always["tensors"][0]["nan_runs"] == 3
    row = count(of(one, nan, infinite))
    assert row["tensors"][0] == {
        "name": "the x",
        "differing_runs": 2,
        "largest_difference": 2.0,
        "nan_runs": 1,
    }
    row = count(of(infinite, one, nan))
    assert row["tensors"][0]["largest_difference"] == 2.0


def test_integers_are_compared_too():
    row = count(of(np.array([1, 2**40]), np.array([1, 2**40]), np.array([1, 2**40 + 7])))
    assert row["tensors"][0]["largest_difference"] == 7


@pytest.mark.parametrize("calls", [1, 2])
def test_calls_are_in_flight_together_or_one_by_one(calls):
    running = 0
    most = 0
    lock = threading.Lock()

    def infer(_feeds):
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.05)
        with lock:
            running -= 1
        return {"x": floats(1)}

    assert count(Subject(infer, dict), runs=6, calls=calls)["runs"] == 6
    assert most == calls


def test_a_variant_ends_when_its_time_is_up():
    assert list(determinism._until(time.monotonic() - 1, 5)) == [0]  # one there must be
    assert list(determinism._until(time.monotonic() + 60, 5)) == [0, 1, 2, 3, 4]


def test_halves_are_put_out_as_floats_and_indices_as_they_are(tmp_path):
    """A cast is as early as what it reads, wherever its node is."""
    text = """<ir_version: 10, opset_import: ["": 17]>
    graph (float16[1,9] x, int64[1] k) => (float16[1,9] y)
    <float16[1,9] a, float16[1,2] values, int64[1,2] indices> {
        y = Neg(x)
        a = Relu(y)
        values, indices = TopK(a, k)
    }"""
    model = onnx.parser.parse_model(text)
    stages = {"backbone": ["a"], "neck": [], "memory": [], "decoder": [], "topk": "indices"}
    helper.set_model_props(model, {"codetr": json.dumps({"stages": stages})})
    onnx.save(model, tmp_path / "model.onnx")
    shown, labels = show_inside(tmp_path / "model.onnx")
    onnx.checker.check_model(shown, full_check=True)
    assert list(labels.items()) == [
        ("y", "y"),
        ("a/float32", "backbone"),  # once, though the TopK reads it
        ("indices", "chosen tokens"),
        ("values/float32", " values"),
    ]
    types = {value.name: value.type.tensor_type.elem_type for value in shown.graph.output}
    assert types["a/float32"] == types["values/float32"] == onnx.TensorProto.FLOAT
    assert types["indices"] == onnx.TensorProto.INT64


def test_ctrl_c_leaves_the_rows_that_are_done(rows_of, tiny, tmp_path, monkeypatch, capsys):
    runs = iter(range(2))

    def stopping(*arguments):
        if next(runs, None) is None:
            raise KeyboardInterrupt
        return repeat(*arguments)

    monkeypatch.setattr(determinism, "repeat", stopping)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    code, rows = rows_of(tiny)
    assert code == 130
    assert [row["shown"] for row in rows] == [False, False]
    assert capsys.readouterr().err == "python -m benchmarks.determinism: cancelled\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["determinism.json", tiny.name]


@pytest.mark.gpu
def test_engines_in_all_variants(exported, timing_cache, tmp_path):
    files = exported(**SWIN, stable=True)
    output = tmp_path / "determinism.json"
    options = ("--runs", "4", "--timing-cache", str(timing_cache), "--output", str(output))
    code = main([str(files.plugin), *options])
    rows = json.loads(output.read_text())["rows"]
    keys = ("shown", "most_aux_streams", "cuda_graph", "calls")
    variants = [tuple(row[key] for key in keys) for row in rows]
    assert variants == list(product((False, True), (None, 0), (True, False), (1, 2)))
    assert all(row["runs"] == 4 for row in rows)
    assert all(row["aux_streams"] == 0 for row in rows if row["most_aux_streams"] == 0)
    assert code == 0, [row["first_to_differ"] for row in rows]


def test_a_model_without_stages(tmp_path, capsys):
    model = save_tiny_model(tmp_path / "model.ref.onnx")
    code = main([str(model), "--backend", "onnxruntime", "--output", str(tmp_path / "out.json")])
    assert code == 2
    assert "export it again" in capsys.readouterr().err
    assert not (tmp_path / "out.json").exists()


def test_onnxruntime_is_given_plugin_nodes(tiny, tmp_path, capsys):
    model = onnx.load(tiny)
    model.opset_import.append(helper.make_opsetid("codetr", 1))
    (node,) = [node for node in model.graph.node if node.op_type == "Exp"]
    node.op_type, node.domain = "CoDetrMSDeformAttn", "codetr"
    onnx.save(model, tiny)
    code = main([str(tiny), "--backend", "onnxruntime", "--output", str(tmp_path / "out.json")])
    assert code == 2
    assert capsys.readouterr().err.endswith("; give a .ref.onnx\n")


@pytest.mark.skipif(has_gpu(), reason="an engine can be built")
def test_engines_without_a_gpu(tiny, tmp_path, capsys):
    assert main([str(tiny), "--output", str(tmp_path / "out.json")]) == 2
    assert "TensorRT" in capsys.readouterr().err
    assert not (tmp_path / "out.json").exists()
