"""A norm written out in plain ONNX computes what the PyTorch operator computes."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import onnxruntime
import pytest
import torch

from codetr.group_norm import group_norm
from onnx_export.kernels import has_norm_kernel
from onnx_export.node import DOMAIN, NORM_OP_TYPE
from onnx_export.reference import write_out_custom_nodes

CHANNELS, GROUPS = 32, 8


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("sizes", [(5, 7), ("height", "width")])
@pytest.mark.parametrize(("model_batch", "batch"), [(1, 1), (2, 2), (None, 3)])
def test_equals_the_operator(model_batch, batch, sizes, dtype):
    rows = "batch" if model_batch is None else model_batch
    inputs = [
        gs.Variable("x", dtype, (rows, *sizes, CHANNELS)),
        gs.Variable("weight", np.float32, (CHANNELS,)),
        gs.Variable("bias", np.float32, (CHANNELS,)),
    ]
    outputs = [gs.Variable("output", dtype, (rows, *sizes, CHANNELS))]
    attributes = {"num_groups": GROUPS}
    node = gs.Node(NORM_OP_TYPE, "norm", attributes, inputs, outputs, domain=DOMAIN)
    graph = gs.Graph([node], inputs, outputs, opset=20)
    assert write_out_custom_nodes(graph) == "1 custom nodes written out"
    rng = np.random.default_rng(0)
    feeds = {
        "x": (3 + 2 * rng.standard_normal((batch, 5, 7, CHANNELS))).astype(dtype),
        "weight": rng.standard_normal(CHANNELS).astype(np.float32),
        "bias": rng.standard_normal(CHANNELS).astype(np.float32),
    }
    model: onnx.ModelProto = gs.export_onnx(graph, ir_version=10)
    onnx.checker.check_model(model)
    (stage,) = model.graph.value_info  # for trt_build verify: the result in float32
    assert stage.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    shape = [d.dim_param or d.dim_value for d in stage.type.tensor_type.shape.dim]
    assert shape == [rows, *sizes, CHANNELS]
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    (found,) = session.run(None, feeds)
    tensors = [torch.from_numpy(array) for array in feeds.values()]
    wanted = group_norm(*tensors, GROUPS).numpy()
    assert found.dtype == dtype
    np.testing.assert_allclose(found, wanted, atol=1e-5 if dtype == np.float32 else 4e-3)


@pytest.mark.parametrize(
    ("channels", "groups", "there"),
    [(256, 32, True), (128, 32, True), (96, 4, True), (384, 32, False), (12, 3, False)],
)
def test_the_norms_that_the_plugin_computes(channels, groups, there):
    assert has_norm_kernel(channels=channels, groups=groups) == there
