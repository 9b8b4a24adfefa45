"""Turns an ONNX file into a strongly typed TensorRT network."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

from runtime.errors import UserError
from runtime.shapes import ShapeRange
from runtime.tensorrt_log import one_line
from trt_build.layers import array_type

# One image at a time is what most users run; 8 is room for offline use at little cost.
DEFAULT_BATCH = (1, 1, 8)
_ERRORS_SHOWN = 5

Profile = dict[str, tuple[tuple[int, ...], ...]]
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


def input_profile(
    network: Any, batch: tuple[int, int, int] | None, sizes: ShapeRange | None
) -> Profile:
    """The shapes that the inputs may take.

    Args:
        network: its inputs have the batch first; height and width, if they are dynamic, last.
        batch: smallest, most common and largest of a dynamic batch.
        sizes: heights and widths that the ONNX was exported for; None: a fixed one.

    Raises:
        UserError: a batch for a network that has a fixed one, or a size that is dynamic and of
            which the ONNX does not say more.
    """
    inputs = [network.get_input(index) for index in range(network.num_inputs)]
    shapes = {tensor.name: tuple(tensor.shape) for tensor in inputs}
    for name, shape in shapes.items():
        has_size = sizes is not None and len(shape) > 2
        if -1 in (shape[1:-2] if has_size else shape[1:]):
            raise UserError(
                f"input {name} has the shape {shape}, but only the batch may be dynamic, and "
                "height and width of an export with ranges; export it with a fixed height and width"
            )
    if batch is not None and all(shape[0] != -1 for shape in shapes.values()):
        fixed = next(iter(shapes.values()))[0]
        raise UserError(
            f"the ONNX has a fixed batch of {fixed}; leave --batch out, or export it with a "
            "dynamic batch"
        )
    # A picture is scaled until it fills the largest height or width: close to the largest size is
    # where kernels have to be fast.
    least, most = sizes or ((), ())
    limits = tuple(zip(batch or DEFAULT_BATCH, (least, most, most), strict=True))
    return {
        name: tuple(_fill(shape, *limit) for limit in limits)
        for name, shape in shapes.items()
        if -1 in shape
    }


def _fill(shape: tuple[int, ...], batch: int, size: tuple[int, ...]) -> tuple[int, ...]:
    """A shape with the batch, and height and width in the last axes, in the place of every -1."""
    wanted = [batch, *shape[1:]]
    if -1 in shape[1:]:
        wanted[-2:] = size
    return tuple(w if n == -1 else n for n, w in zip(shape, wanted, strict=True))


def describe_io(network: Any, profile: Profile) -> list[dict[str, Any]]:
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


def _profile_json(profile: Profile, name: str) -> dict[str, list[int]] | None:
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
