"""Reads from an ONNX file what must be known before TensorRT's parser sees it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from runtime.errors import UserError, first_line
from runtime.json_text import parse_json

PLUGIN_DOMAIN = "codetr"
_METADATA_KEY = "codetr"


@dataclass(frozen=True, slots=True)
class OnnxSummary:
    """What an exported ONNX says about itself."""

    model: dict[str, Any]
    """The JSON object that ``onnx_export`` left in the metadata."""
    plugin_ops: tuple[str, ...]
    """Operator types of our domain, which only TensorRT with our plugin builds; sorted."""


def read_onnx(path: Path) -> OnnxSummary:
    """Check that a file is an ONNX model of ours, and summarise it.

    TensorRT's parsers take an empty file, and some that are no ONNX at all, for a model without
    nodes; so the file is read here first. The copy in memory is gone when this returns.

    Raises:
        UserError: not a file, not a whole ONNX model, weights in other files, or no metadata
            from ``onnx_export``.
    """
    model = load_onnx(path)
    if not model.graph.node or not model.graph.output:
        raise UserError(f"{path} holds no ONNX graph (empty or not an ONNX file); export it again")
    if any(_is_elsewhere(tensor) for tensor in _tensors(model)):
        # The hash of this one file would say nothing about the weights, and a name like
        # ../../secret would read files that are none of the model's.
        raise UserError(f"{path} keeps its weights in other files; export it as one file")
    _check(path)
    return OnnxSummary(
        model=exporter_metadata(path, model),
        plugin_ops=tuple(
            sorted({n.op_type for n in model.graph.node if n.domain == PLUGIN_DOMAIN})
        ),
    )


def _check(path: Path) -> None:
    """Refuse what breaks ONNX's own rules.

    TensorRT's parsers trust in them: an input without a shape ends TensorRT-RTX 1.7 and the whole
    process with it.

    Raises:
        UserError: says which rule.
    """
    from onnx import checker

    try:
        checker.check_model(str(path))
    except Exception as error:  # names that are no text fail in their own way
        raise UserError(
            f"{path} is not a valid ONNX model: {first_line(error)}; export it again"
        ) from error


def load_onnx(path: Path) -> Any:
    """An ``onnx.ModelProto`` without its external data.

    Raises:
        UserError: not a file, or not a whole ONNX model.
    """
    missing = [name for name in ("polygraphy", "onnx") if find_spec(name) is None]
    if missing:
        raise UserError(
            f"{' and '.join(missing)} must be there to read ONNX files; "
            f"install: pip install {' '.join(missing)}"
        )
    from google.protobuf.message import DecodeError
    from polygraphy.backend.onnx import onnx_from_path
    from polygraphy.logger import G_LOGGER

    try:
        with G_LOGGER.verbosity(G_LOGGER.ERROR):  # it would print to stdout
            return onnx_from_path(str(path), ignore_external_data=True)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    except DecodeError as error:
        raise UserError(f"{path} is not a whole ONNX model; export or copy it again") from error


def _tensors(message: Any) -> Iterator[Any]:
    """Every ``onnx.TensorProto`` inside: initializers, constants, those of sub-graphs, and all."""
    for field, value in message.ListFields():
        if field.type != field.TYPE_MESSAGE:
            continue
        for inner in value if isinstance(value, Sequence) else (value,):
            if field.message_type.full_name == "onnx.TensorProto":
                yield inner
            else:
                yield from _tensors(inner)


def _is_elsewhere(tensor: Any) -> bool:
    """Whether the values of a tensor are in another file."""
    return tensor.external_data or tensor.data_location == tensor.EXTERNAL


def exporter_metadata(path: Path, model: Any) -> dict[str, Any]:
    """The JSON object that ``onnx_export`` left in the ``onnx.ModelProto`` of a file.

    Raises:
        UserError: there is none.
    """
    properties = {prop.key: prop.value for prop in model.metadata_props}
    try:
        entry = parse_json(properties[_METADATA_KEY])
    except (KeyError, ValueError):
        entry = None
    if not isinstance(entry, dict):
        raise UserError(
            f"{path} has no usable metadata entry {_METADATA_KEY!r}, so it does not come from "
            "this project's exporter; make it with python -m onnx_export"
        )
    return entry
