"""A long top-k in parts picks what one top-k picks, ties included."""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs
import onnxruntime
import pytest

from onnx_export.topk import LONG_ROW, PART, known_rows, split_topk


def graph_of(
    length: int | str, picks: int, batch: int | str = 2, dtype: type = np.float32
) -> gs.Graph:
    x = gs.Variable("x", dtype, (batch, length))
    values = gs.Variable("values", dtype, (batch, picks))
    indices = gs.Variable("indices", np.int64, (batch, picks))
    count = gs.Constant("count", np.array([picks]))
    node = gs.Node("TopK", "detector/TopK", {"axis": 1}, [x, count], [values, indices])
    return gs.Graph([node], [x], [values, indices], opset=20)


def run(graph: gs.Graph | bytes, x: np.ndarray) -> list[np.ndarray]:
    is_graph = isinstance(graph, gs.Graph)
    model = gs.export_onnx(graph, ir_version=10).SerializeToString() if is_graph else graph
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return session.run(["values", "indices"], {"x": x})


def both(length, picks, x, **options):
    graph = graph_of(length, picks, **options)
    wanted = run(graph, x)
    report = split_topk(graph)
    return report, graph, wanted, run(graph, x)


@pytest.mark.parametrize("length", [LONG_ROW + 1, 30785, 72000, 204600])
@pytest.mark.parametrize("picks", [1, 300, 900])
def test_same_values_and_indices(length, picks):
    # Integers, many of them equal: the order among equals has to be kept too.
    x = np.random.default_rng(0).integers(-500, 500, (2, length)).astype(np.float32)
    _, graph, wanted, found = both(length, picks, x)
    for a, b in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(a, b)
    assert all(n.inputs[0].shape[-1] <= LONG_ROW for n in graph.nodes if n.op == "TopK")


def test_all_in_one_part():
    x = np.full((2, 40000), -3.0, np.float32)
    x[:, 100 : 100 + 900] = np.arange(900)
    _, _, wanted, found = both(40000, 900, x)
    np.testing.assert_array_equal(found[1], wanted[1])


def test_padding_is_never_picked():
    x = np.full((1, LONG_ROW + 1), np.finfo(np.float32).min, np.float32)
    report, _, wanted, found = both(LONG_ROW + 1, 900, x, batch=1)
    assert report == "1 long rows split"
    np.testing.assert_array_equal(found[1], wanted[1])


def test_dynamic_batch():
    x = np.random.default_rng(0).random((3, 20000), np.float32)
    _, _, wanted, found = both(20000, 100, x, batch="batch")
    np.testing.assert_array_equal(found[1], wanted[1])


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_length_known_at_run_time(dtype):
    longest = 3 * LONG_ROW + 7
    graph = graph_of("tokens", 900, batch="batch", dtype=dtype)
    plain = gs.export_onnx(graph, ir_version=10).SerializeToString()
    assert known_rows(longest)(graph) == f"1 rows padded to {3 * LONG_ROW + PART}"
    assert split_topk(graph) == "1 long rows split"
    assert all(n.inputs[0].shape[-1] <= LONG_ROW for n in graph.nodes if n.op == "TopK")
    for length in (900, 901, PART, longest):
        x = np.random.default_rng(0).integers(-500, 500, (2, length)).astype(dtype)
        x[:, ::7] = np.finfo(dtype).min
        for a, b in zip(run(graph, x), run(plain, x), strict=True):
            np.testing.assert_array_equal(a, b)


def test_rows_that_never_get_long_are_not_padded():
    graph = graph_of("tokens", 900)
    assert known_rows(LONG_ROW)(graph).startswith("0 rows padded")
    assert len(graph.nodes) == 1


@pytest.mark.parametrize(("length", "picks"), [(LONG_ROW, 900), (100_000, PART // 2 + 1)])
def test_short_rows_and_many_picks_are_left_alone(length, picks):
    graph = graph_of(length, picks)
    assert split_topk(graph) == "0 long rows split"
    assert len(graph.nodes) == 1
