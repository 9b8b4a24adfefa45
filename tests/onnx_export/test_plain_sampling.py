"""Deformable attention written out in plain ONNX computes what the PyTorch operator computes."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import onnxruntime
import pytest
import torch

from codetr.deform_attn import ms_deform_attn
from onnx_export.node import DOMAIN, OP_TYPE
from onnx_export.reference import write_out_custom_nodes

HEADS, POINTS, CHANNELS = 4, 3, 32
LEVELS = np.array([[7, 9], [4, 5], [1, 1]], np.int32)
QUERIES = 11


def custom_node(
    batch: int | None, dims: int, dtype: type, valid_batch: int, *, any_size: bool = False
) -> onnx.ModelProto:
    """A model of one custom node; ``batch`` None is dynamic."""
    rows = "batch" if batch is None else batch
    tokens = "tokens" if any_size else int(LEVELS.prod(1).sum())
    half = gs.Variable("value", dtype, (rows, tokens, CHANNELS))
    samples = HEADS * POINTS * len(LEVELS)
    sampling = gs.Variable("sampling", dtype, (rows, QUERIES, 3 * samples))
    reference = gs.Variable("reference", np.float32, (rows, QUERIES, dims))
    valid = gs.Variable("valid_sizes", np.int32, (valid_batch, len(LEVELS), 2))
    output = gs.Variable("output", dtype, (rows, QUERIES, CHANNELS))
    sizes = gs.Constant("level_sizes", LEVELS)
    if any_size:
        sizes = gs.Variable("level_sizes", np.int32, LEVELS.shape)
    inputs = [half, sampling, reference, sizes, valid]
    attributes = {"num_heads": HEADS, "num_points": POINTS}
    node = gs.Node(OP_TYPE, "attn", attributes, inputs, [output], domain=DOMAIN)
    given = [tensor for tensor in inputs if isinstance(tensor, gs.Variable)]
    graph = gs.Graph([node], given, [output], opset=20)
    assert write_out_custom_nodes(graph) == "1 custom nodes written out"
    return gs.export_onnx(graph, ir_version=10)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("dims", [2, 4])
@pytest.mark.parametrize(
    ("model_batch", "batch", "valid_batch", "any_size"),
    [
        (1, 1, 1, False),
        (2, 2, 2, False),
        (None, 3, 3, False),
        (None, 1, 1, False),
        (1, 1, 1, True),
        (None, 3, 3, True),
    ],
)
def test_equals_the_operator(model_batch, batch, valid_batch, any_size, dims, dtype):
    rng = np.random.default_rng(dims)
    tokens, samples = int(LEVELS.prod(1).sum()), HEADS * POINTS * len(LEVELS)
    feeds = {
        "value": rng.standard_normal((batch, tokens, CHANNELS)).astype(dtype),
        # Wide enough that many samples fall outside the valid region and outside the level.
        "sampling": (3 * rng.standard_normal((batch, QUERIES, 3 * samples))).astype(dtype),
        "reference": rng.uniform(-0.1, 1.2, (batch, QUERIES, dims)).astype(np.float32),
        "valid_sizes": np.stack([np.maximum(LEVELS - i % 3, 1) for i in range(valid_batch)]),
    }
    model = custom_node(model_batch, dims, dtype, valid_batch, any_size=any_size)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    (found,) = session.run(None, feeds | ({"level_sizes": LEVELS} if any_size else {}))
    tensors = {name: torch.from_numpy(array) for name, array in feeds.items()}
    valid_sizes = tensors.pop("valid_sizes")
    wanted = ms_deform_attn(*tensors.values(), torch.from_numpy(LEVELS), valid_sizes, HEADS, POINTS)
    assert found.dtype == dtype
    tolerance = 2e-6 if dtype == np.float32 else 2e-3
    np.testing.assert_allclose(found, wanted.numpy(), atol=tolerance, rtol=tolerance)
    assert np.abs(found).max() > 0.5
