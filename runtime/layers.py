"""The layers of an engine, as TensorRT's engine inspector tells of them."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from math import prod
from types import ModuleType
from typing import Any, NamedTuple

_BYTES = {
    **{"Float": 4, "Half": 2, "BFloat16": 2, "Int64": 8, "Int32": 4, "Int8": 1, "Bool": 1},
    **{"UInt8": 1, "FP8": 1},
}
_ONNX_LAYER = re.compile(r"\[ONNX Layer: ([^\]]*)\]")


class LayerTensor(NamedTuple):
    """What a layer reads or writes."""

    shape: tuple[int, ...]
    dtype: str
    """As the inspector calls it: ``Half``."""

    @property
    def nbytes(self) -> int:
        """Its size; 0 for a type that is not known."""
        return prod(self.shape) * _BYTES.get(self.dtype, 0)


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer of a built engine: a kernel, mostly."""

    name: str
    kind: str
    """``gemm``, ``PluginV3``; the compiler's own kernels are ``kgen``."""
    tactic: str
    onnx_nodes: tuple[str, ...]
    """Names of the ONNX nodes it stands for, as far as they are known."""
    inputs: tuple[LayerTensor, ...]
    outputs: tuple[LayerTensor, ...]
    kernel: tuple[int, ...] | None
    """Height and width of a convolution's."""
    groups: int

    @classmethod
    def from_inspector(cls, entry: dict[str, Any]) -> Layer:
        """From an entry of the inspector's JSON, with detailed profiling verbosity."""
        inputs, outputs = (
            tuple(LayerTensor(tuple(t["Dimensions"]), tensor_type(t)) for t in entry[key])
            for key in ("Inputs", "Outputs")
        )
        return cls(
            entry["Name"],
            entry["LayerType"],
            entry.get("TacticName", ""),
            tuple(_ONNX_LAYER.findall(entry.get("Metadata", ""))),
            inputs,
            outputs,
            tuple(entry["Kernel"]) if "Kernel" in entry else None,
            entry.get("Groups", 1),
        )

    @property
    def nbytes(self) -> int:
        """What it reads and writes at least: every tensor once."""
        return sum(tensor.nbytes for tensor in self.inputs + self.outputs)


def inspect_layers(trt: ModuleType, engine: Any) -> list[dict[str, Any]]:
    """The inspector's entries, one for each layer; none unless it was built to tell of them.

    Args:
        trt: the module that built it, with detailed profiling verbosity.
        engine: deserialised.
    """
    inspector = engine.create_engine_inspector()
    information = json.loads(inspector.get_engine_information(trt.LayerInformationFormat.JSON))
    # With less verbosity there are names alone, or nothing.
    return [layer for layer in information.get("Layers", ()) if isinstance(layer, dict)]


def make_profiler(trt: ModuleType) -> Any:
    """A profiler for an execution context; ``times`` has the milliseconds of each layer."""

    class Profiler(trt.IProfiler):  # type: ignore[name-defined, misc]
        def __init__(self) -> None:
            trt.IProfiler.__init__(self)
            self.times: dict[str, float] = {}

        def report_layer_time(self, layer_name: str, ms: float) -> None:
            self.times[layer_name] = ms

    return Profiler()


def tensor_type(tensor: dict[str, Any]) -> str:
    """The type of an inspector's tensor: TensorRT 11 split ``Format/Datatype`` of 10 in two."""
    dtype: str = tensor.get("Datatype") or tensor["Format/Datatype"]
    return dtype
