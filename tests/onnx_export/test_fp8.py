"""The fp8 pass: what it computes, and that TensorRT takes it."""

from __future__ import annotations

import json

import numpy as np
import onnx_graphsurgeon as gs
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper

from onnx_export.calibration import E4M3_MAX
from onnx_export.checks import GraphError
from onnx_export.fp8 import E4M3, quantise_by
from onnx_export.passes import CLEAN_UP, run_passes
from runtime.errors import UserError
from tests.trt_build.tiny_models import METADATA
from trt_build import BuildOptions, build_engine, choose_backend

PATH = "backbone.stages.0.blocks.0.fc1"


def product(weights: np.ndarray, *, transposed: bool = False) -> gs.Graph:
    """x (5, K) float32 -> float16, times weights (K, N) float16, to float32; named as traced."""
    x = gs.Variable("batch_inputs", np.float32, (5, len(weights)))
    half = gs.Variable("half", np.float16, x.shape)
    result = gs.Variable("result", np.float16, (5, weights.shape[1]))
    y = gs.Variable("scores", np.float32, result.shape)
    nodes = [gs.Node("Cast", "cast", {"to": TensorProto.FLOAT16}, [x], [half])]
    constant = gs.Constant("w", weights.astype(np.float16))
    if transposed:  # as large weights are left
        rows, constant = constant, gs.Variable("wt", np.float16, weights.shape)
        rows.values = np.ascontiguousarray(rows.values.T)
        nodes.append(gs.Node("Transpose", "t", {"perm": [1, 0]}, [rows], [constant]))
    nodes.append(gs.Node("MatMul", f"{PATH}/MatMul", {}, [half, constant], [result]))
    nodes.append(gs.Node("Cast", "back", {"to": TensorProto.FLOAT}, [result], [y]))
    return gs.Graph(nodes, [x], [y], opset=20)


def run(graph: gs.Graph, x: np.ndarray) -> np.ndarray:
    model = gs.export_onnx(graph, ir_version=10).SerializeToString()
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return session.run(None, {"batch_inputs": x})[0]


def rounded(x: np.ndarray, scale: float) -> torch.Tensor:
    """What PyTorch makes of fp8 values of that scale."""
    scaled = (torch.from_numpy(x.astype(np.float32)) / scale).clamp(-E4M3_MAX, E4M3_MAX)
    return scaled.to(torch.float8_e4m3fn).float() * scale


@pytest.mark.parametrize("transposed", [False, True])
def test_products_are_of_rounded_tensors(transposed):
    random = np.random.default_rng(0)
    x = random.normal(size=(5, 64)).astype(np.float32)
    weights = random.normal(size=(64, 32)).astype(np.float16)
    scale = 2.0**-9  # too small: values above 0.875 saturate, and do not become NaN
    graph = product(weights, transposed=transposed)
    run_passes(graph, [quantise_by({PATH: scale})], lambda _line: None)
    weight_scale = float(np.float16(np.abs(weights.astype(np.float32)).max() / E4M3_MAX))
    wanted = rounded(x.astype(np.float16), scale) @ rounded(weights, weight_scale)
    np.testing.assert_allclose(run(graph, x), wanted.numpy(), rtol=2e-3, atol=2e-2)
    assert np.abs(wanted.numpy() - x @ weights.astype(np.float32)).max() > 1  # not by chance


def test_values_that_fp8_holds_are_multiplied_exactly():
    random = np.random.default_rng(1)
    x = random.integers(-16, 17, (5, 64)).astype(np.float32)
    weights = random.integers(-7, 8, (64, 32)).astype(np.float16)  # 7 = 448 / 64
    graph = product(weights)
    before = run(graph, x)
    report: list[str] = []
    run_passes(graph, [quantise_by({PATH: 1.0}), *CLEAN_UP], report.append)
    np.testing.assert_array_equal(run(graph, x), before)
    assert report[0] == "quantise_products: 1 products quantised to fp8"
    ops = [node.op for node in graph.nodes]
    assert (ops.count("QuantizeLinear"), ops.count("DequantizeLinear")) == (1, 2)


def test_weights_are_stored_in_fp8_with_a_scale_of_float16():
    graph = product(np.zeros((64, 32)))  # no scale fits zeros best
    run_passes(graph, [quantise_by({PATH: 1e-9})], lambda _line: None)
    constants = {t.name: t for t in graph.tensors().values() if isinstance(t, gs.Constant)}
    assert constants[f"{PATH}.weight_fp8"].dtype == E4M3
    for name in ("input_scale", "weight_scale"):
        values = constants[f"{PATH}.{name}"].values
        assert (values.dtype, values.shape, float(values)) == (np.float16, (), 2.0**-14)


def test_a_product_that_is_not_there():
    with pytest.raises(GraphError, match="no product of neck in the graph"):
        quantise_by({"neck": 1.0})(product(np.ones((64, 32))))


def test_weights_that_are_computed():
    graph = product(np.ones((64, 32)))
    (node,) = (node for node in graph.nodes if node.op == "MatMul")
    node.inputs = node.inputs[::-1]
    with pytest.raises(GraphError, match="half is not constant"):
        quantise_by({PATH: 1.0})(graph)


@pytest.mark.parametrize("quantised", [True, False])
def test_tensorrt_rtx_builds_it_and_misses_it(tmp_path, quantised):
    pytest.importorskip("tensorrt_rtx")
    graph = product(np.random.default_rng(2).normal(size=(64, 32)))
    if quantised:
        run_passes(graph, [quantise_by({PATH: 0.01}), *CLEAN_UP], lambda _line: None)
    model = gs.export_onnx(graph, ir_version=10)
    helper.set_model_props(model, {"codetr": json.dumps({**METADATA, "precision": "fp8"})})
    onnx, engine = tmp_path / "m.ref.onnx", tmp_path / "m.engine"
    onnx.write_bytes(model.SerializeToString())
    arguments = {"backend": choose_backend("tensorrt-rtx")}
    arguments["options"] = BuildOptions(compute_capabilities=("8.9", "12.0"))
    if quantised:
        layers = build_engine(onnx, engine, **arguments).manifest["layers"]
        assert layers["output_types"]["FP8"] == 2  # the input and the weights
    else:
        with pytest.raises(UserError, match="exported for fp8, but no layer"):
            build_engine(onnx, engine, **arguments)
