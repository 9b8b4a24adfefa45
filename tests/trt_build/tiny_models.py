"""ONNX models of a few layers, as the exporter would describe them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

METADATA = {"version": "0.1.0", "role": "reference", "preset": "tiny", "precision": "fp16"}
CHANNELS = 8
SIZE = 16


def save_model(path: Path, nodes: list[Any], *, batch: int | str = 1, **options: Any) -> Path:
    """Save a graph from ``batch_inputs`` float32 (batch, 3, SIZE, SIZE) to ``scores``.

    Options: ``initializers``; ``metadata`` (None: without any); ``height``; ``width``.
    """
    size = [options.get("height", SIZE), options.get("width", SIZE)]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("batch_inputs", TensorProto.FLOAT, [batch, 3, *size])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [None] * 4)],
        options.get("initializers", []),
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("codetr", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    metadata = options.get("metadata", METADATA)
    if metadata is not None:
        helper.set_model_props(model, {"codetr": json.dumps(metadata)})
    onnx.save(model, path)
    return path


def save_conv(
    path: Path, *, precision: str = "fp16", batch: int | str = 1, seed: int = 0, layers: int = 2
) -> Path:
    """Save convolutions with ReLUs that compute in float16 or float32."""
    dtype = {"fp16": np.float16, "fp32": np.float32}[precision]
    random = np.random.default_rng(seed)
    nodes = [
        helper.make_node(
            "Cast", ["batch_inputs"], ["x0"], to=helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        )
    ]
    weights = []
    for i in range(layers):
        shape = (CHANNELS, 3 if i == 0 else CHANNELS, 3, 3)
        weights.append(numpy_helper.from_array(random.normal(size=shape).astype(dtype), f"w{i}"))
        nodes.append(helper.make_node("Conv", [f"x{i}", f"w{i}"], [f"y{i}"], pads=[1, 1, 1, 1]))
        nodes.append(helper.make_node("Relu", [f"y{i}"], [f"x{i + 1}"]))
    nodes.append(helper.make_node("Cast", [f"x{layers}"], ["scores"], to=TensorProto.FLOAT))
    metadata = {**METADATA, "precision": precision}
    return save_model(path, nodes, batch=batch, initializers=weights, metadata=metadata)
