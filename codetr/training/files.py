"""Files of training: whole or not at all, and the weights that it is all about."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch

from codetr.model import CoDino
from codetr.original_names import to_original


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a file beside ``path`` that becomes it if the block succeeds."""
    temporary = path.with_name(f".{path.name}")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def export_weights(
    model: CoDino, classes: tuple[str, ...], path: Path, metadata: Mapping[str, str]
) -> None:
    """Write fp16 safetensors that ``codetr.checkpoint`` reads like any other weights.

    The values are rounded to bfloat16 first, as in the products of training: so models in every
    precision compute with the same weights, and bfloat16 loses nothing by them.

    Args:
        model: the trained detector.
        classes: their names, in label order.
        path: ends in ``.safetensors``.
        metadata: what else the file says about itself.
    """
    from safetensors.torch import save_file

    state = {
        name: (tensor.bfloat16().half() if tensor.is_floating_point() else tensor)
        .cpu()
        .contiguous()
        for name, tensor in to_original(model).items()
    }
    about = {"format": "pt", "classes": json.dumps(classes), **metadata}
    with whole_file(path) as temporary, torch.no_grad():
        save_file(state, temporary, about)
