"""The text of config.pbtxt, Triton's protobuf message ModelConfig."""

from __future__ import annotations

import json
from collections.abc import Mapping

from runtime.backend import TensorInfo
from runtime.triton import DETECTOR, NETWORK
from runtime.triton.settings import Settings

_TYPES = {"float32": "TYPE_FP32", "int64": "TYPE_INT64"}

_DETECTOR = """\
name: "{name}"
backend: "python"
max_batch_size: {max_batch}
input [
  # One of the two: pixels, RGB, or the bytes of a picture file.
  {{
    name: "image" data_type: TYPE_UINT8 dims: [ -1, -1, 3 ] optional: true
    allow_ragged_batch: true # requests with pictures of different sizes share an inference
  }},
  {{ name: "encoded" data_type: TYPE_STRING dims: [ 1 ] optional: true }}
]
output [
  # Best first. Pictures of one request are filled up with zeros to as many as one of them has.
  {{ name: "num_detections" data_type: TYPE_INT32 dims: [ 1 ] }},
  {{ name: "boxes" data_type: TYPE_FP32 dims: [ -1, 4 ] }},
  {{ name: "scores" data_type: TYPE_FP32 dims: [ -1 ] }},
  {{ name: "labels" data_type: TYPE_INT64 dims: [ -1 ] }}
]
dynamic_batching {{ }}
instance_group [ {{ kind: KIND_CPU count: {instances} }} ]
{parameters}
"""


def detector_config(settings: Settings, instances: int) -> str:
    """For the model that clients talk to.

    Args:
        settings: kept as parameters, where Triton shows them to clients.
        instances: processes that prepare pictures.
    """
    parameters = [
        # A JSON string is a string of protobuf's text format too.
        f"parameters {{ key: {json.dumps(key)} value {{ string_value: {json.dumps(value)} }} }}"
        for key, value in settings.parameters().items()
    ]
    return _DETECTOR.format(
        name=DETECTOR,
        max_batch=settings.max_batch,
        instances=instances,
        parameters="\n".join(parameters),
    )


def network_config(
    inputs: Mapping[str, TensorInfo],
    outputs: Mapping[str, TensorInfo],
    *,
    max_batch: int | None,
    runs_on: str,
    kind: str,
) -> str:
    """For the model that the detector calls.

    Args:
        inputs: as the file states them.
        outputs: likewise.
        max_batch: most rows per inference; None for a fixed batch. Triton then counts the batch
            among the dimensions and puts nothing together.
        runs_on: the field that names the backend.
        kind: of the instance, ``KIND_GPU`` or ``KIND_CPU``.
    """
    first = 0 if max_batch is None else 1
    lines = [f'name: "{NETWORK}"', runs_on, f"max_batch_size: {max_batch or 0}"]
    for field, tensors in (("input", inputs), ("output", outputs)):
        for name, info in tensors.items():
            lines.append(f'{field} {{ name: "{name}" {_type_and_dims(info, first)} }}')
    if max_batch is not None:
        lines.append("dynamic_batching { }")
    lines.append(f"instance_group [ {{ kind: {kind} count: 1 }} ]")
    lines += [_warm_up(inputs, first, batch) for batch in sorted({1, max_batch or 1})]
    return "\n".join(lines) + "\n"


def _type_and_dims(info: TensorInfo, first: int) -> str:
    dims = ", ".join("-1" if n is None else str(n) for n in info.shape[first:])
    return f"data_type: {_TYPES[info.dtype]} dims: [ {dims} ]"


def _warm_up(inputs: Mapping[str, TensorInfo], first: int, batch: int) -> str:
    """Black pictures, so that the first client does not wait for what is set up lazily."""
    lines = [f'model_warmup {{ name: "batch of {batch}" batch_size: {batch}']
    for name, info in inputs.items():
        tensor = f"{_type_and_dims(info, first)} zero_data: true"
        lines.append(f'  inputs {{ key: "{name}" value {{ {tensor} }} }}')
    return "\n".join([*lines, "}"])
