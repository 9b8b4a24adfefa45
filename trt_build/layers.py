"""Counts the layers of a network or an engine by type and by the type of what they put out.

Both counts are plain JSON objects of the same form, so that a manifest can hold either:
``{"source": "engine inspector" | "parsed network", "count": 3, "by_type": {"CONVOLUTION": 2, …},
"output_types": {"Half": 3}}``. Types are called as the engine inspector calls them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from types import ModuleType
from typing import Any

from runtime.layers import inspect_layers, tensor_type

_INSPECTOR_NAMES = {"BF16": "BFloat16", "FP8": "FP8"}
_ARRAY_NAMES = {"FLOAT": "float32", "HALF": "float16", "BF16": "bfloat16"}


def array_type(dtype: Any) -> str:
    """A ``trt.DataType`` as NumPy and ONNX call it: ``float16``."""
    return _ARRAY_NAMES.get(dtype.name, dtype.name.lower())


def layers_of_network(network: Any) -> dict[str, Any]:
    """Count the layers of a parsed network: what was asked for, before any fusion."""
    layers = [network.get_layer(index) for index in range(network.num_layers)]
    outputs = [layer.get_output(i).dtype.name for layer in layers for i in range(layer.num_outputs)]
    return _count(
        "parsed network",
        (layer.type.name for layer in layers),
        (_INSPECTOR_NAMES.get(name, name.capitalize()) for name in outputs),
    )


def layers_of_plan(
    trt: ModuleType, logger: Any, plan: Any, *, host_code_allowed: bool
) -> dict[str, Any] | None:
    """Count the layers of an engine: what was really built.

    Args:
        trt: the backend that built it, with detailed profiling verbosity.
        logger: keeps the backend's reason if the engine cannot be deserialised.
        plan: the serialised engine, anything with the buffer protocol.
        host_code_allowed: let code inside the plan run, as a version-compatible one needs it.

    Returns:
        The counts, or None where the engine cannot be deserialised: both backends need a GPU for
        that, even TensorRT-RTX, which builds without one.
    """
    runtime = trt.Runtime(logger)
    runtime.engine_host_code_allowed = host_code_allowed
    engine = runtime.deserialize_cuda_engine(plan)
    if engine is None:
        return None
    layers = inspect_layers(trt, engine)
    outputs = [tensor for layer in layers for tensor in layer["Outputs"]]
    return _count(
        "engine inspector",
        (layer["LayerType"] for layer in layers),
        map(tensor_type, outputs),
    )


def _count(source: str, types: Iterable[str], output_types: Iterable[str]) -> dict[str, Any]:
    by_type = Counter(types)
    return {
        "source": source,
        "count": by_type.total(),
        "by_type": dict(by_type.most_common()),
        "output_types": dict(Counter(output_types).most_common()),
    }
