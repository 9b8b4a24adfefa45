"""Turns an ONNX file into a strongly typed TensorRT network."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

from runtime.errors import UserError
from runtime.tensorrt_log import one_line
from trt_build.layers import array_type

# One image at a time is what most users run; 8 is room for offline use at little cost.
DEFAULT_BATCH = (1, 1, 8)
_ERRORS_SHOWN = 5

BatchProfile = dict[str, tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]]
"""Smallest, most common and largest shape of each input; empty if all shapes are fixed."""


def parse_onnx(trt: ModuleType, builder: Any, logger: Any, path: Path) -> tuple[Any, Any]:
    """Parse an ONNX file.

    Returns:
        The network and its parser, which owns the weights: keep it as long as the network.

    Raises:
        UserError: the parser refuses the model; one line for each of the first few problems.
    """
    flags = 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    network = builder.create_network(flags)
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(str(path)):
        problems = [_problem(parser.get_error(index)) for index in range(parser.num_errors)]
        if len(problems) > _ERRORS_SHOWN:
            problems[_ERRORS_SHOWN:] = [f"and {len(problems) - _ERRORS_SHOWN} more"]
        lines = "\n".join(f"  {problem}" for problem in problems)
        raise UserError(f"{path} cannot be parsed by {trt.__name__} {trt.__version__}:\n{lines}")
    return network, parser


def batch_profile(network: Any, batch: tuple[int, int, int] | None) -> BatchProfile:
    """The shapes that the inputs may take when the batch is dynamic.

    Raises:
        UserError: a batch for a network that has a fixed one, or another size that is dynamic.
    """
    inputs = [network.get_input(index) for index in range(network.num_inputs)]
    shapes = {tensor.name: tuple(tensor.shape) for tensor in inputs}
    for name, shape in shapes.items():
        if -1 in shape[1:]:
            raise UserError(
                f"input {name} has the shape {shape}, but only the batch may be dynamic; "
                "export it with a fixed height and width"
            )
    dynamic = {name: shape for name, shape in shapes.items() if shape[:1] == (-1,)}
    if batch is not None and not dynamic:
        fixed = next(iter(shapes.values()))[0]
        raise UserError(
            f"the ONNX has a fixed batch of {fixed}; leave --batch out, or export it with a "
            "dynamic batch"
        )
    smallest, common, largest = batch or DEFAULT_BATCH
    return {
        name: ((smallest, *shape[1:]), (common, *shape[1:]), (largest, *shape[1:]))
        for name, shape in dynamic.items()
    }


def describe_io(network: Any, profile: BatchProfile) -> list[dict[str, Any]]:
    """Inputs and outputs as a manifest holds them; a dynamic size is -1."""
    tensors = [("input", network.get_input(index)) for index in range(network.num_inputs)]
    tensors += [("output", network.get_output(index)) for index in range(network.num_outputs)]
    return [
        {
            "name": tensor.name,
            "mode": mode,
            "dtype": array_type(tensor.dtype),
            "shape": list(tensor.shape),
            "profile": _profile_json(profile, tensor.name) if mode == "input" else None,
        }
        for mode, tensor in tensors
    ]


def _profile_json(profile: BatchProfile, name: str) -> dict[str, list[int]] | None:
    if name not in profile:
        return None
    return {
        key: list(shape) for key, shape in zip(("min", "opt", "max"), profile[name], strict=True)
    }


def _problem(error: Any) -> str:
    """A ``trt.ParserError`` on one line: which node, and what is wrong with it."""
    try:
        operator, name = error.node_operator(), error.node_name()
    except UnicodeDecodeError:
        # A damaged file can hold names that are no text.
        operator, name = "?", "?"
    node = f"node {name or '(unnamed)'} ({operator}): " if operator else ""
    return node + one_line(error.desc())
