"""Weights files into the model: MMDetection checkpoints (``.pth``) and safetensors.

Both hold the original's parameter names; ``codetr.original_names`` knows them.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import pickle
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from codetr.errors import UserError
from codetr.model import CoDino
from codetr.original_names import (
    Shape,
    describe_architecture,
    expected_shapes,
    from_original,
    training_only_shapes,
)
from codetr.presets import COCO_CLASSES, PRESETS

LISTED = 20
"""Keys of a kind that an error spells out; the exception's attributes hold all."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a weights file holds."""

    name: str
    """File name without its folder."""
    sha256: str
    """Of the file, hexadecimal."""
    state: dict[str, Tensor]
    """Tensors by the original's names."""
    classes: tuple[str, ...] | None
    """Class names in label order, where the file tells them."""


class StateMismatchError(UserError):
    """Tensors that do not fit the model, by the original's names."""

    def __init__(self, name: str, found: dict[str, Shape], wanted: dict[str, Shape]) -> None:
        self.missing = [key for key in wanted if key not in found]
        self.unexpected = [key for key in found if key not in wanted]
        self.misshapen = [
            f"{key} is {found[key]}, not {shape}"
            for key, shape in wanted.items()
            if key in found and found[key] != shape
        ]
        architectures = describe_architecture(found), describe_architecture(wanted)
        reason = ""
        if architectures[0] != architectures[1]:
            reason = f": it holds {architectures[0]}, not {architectures[1]}"
        lists = (
            f"{len(keys)} {kind}: {_listed(keys)}"
            for kind in ("missing", "unexpected", "misshapen")
            if (keys := getattr(self, kind))
        )
        super().__init__(f"{name} does not fit{reason}; {'; '.join(lists)}")


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a ``.pth`` (``weights_only=True``: no code runs) or ``.safetensors`` file.

    Raises:
        UserError: the file is missing, damaged, not a checkpoint, or holds more than data.
    """
    if not path.is_file():
        raise UserError(f"no checkpoint at {path}; give an mmdet .pth or a .safetensors file")
    try:
        if path.suffix == ".safetensors":
            state, classes = _read_safetensors(path)
        else:
            state, classes = _read_pth(path)
    except UserError:
        raise
    except pickle.UnpicklingError as error:
        raise UserError(_explain_pickle(path, error)) from error
    except Exception as error:  # a damaged file fails in as many ways as it has bytes
        raise UserError(
            f"cannot read checkpoint {path} ({path.stat().st_size} bytes): truncated or not a "
            f"checkpoint ({type(error).__name__}); fetch it again"
        ) from error
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return Checkpoint(path.name, sha256, state, classes)


def build_model(preset: str, checkpoint: Checkpoint) -> tuple[CoDino, tuple[str, ...]]:
    """The preset's model in eval mode with the checkpoint's weights, and its class names.

    The number of classes follows the checkpoint's class names.

    Raises:
        StateMismatchError: the tensors do not fit, naming every one that does not.
    """
    classes = checkpoint.classes or COCO_CLASSES
    model = CoDino(replace(PRESETS[preset], num_classes=len(classes))).eval()
    load_original(model, checkpoint.state, f"{checkpoint.name} as preset {preset}")
    return model, classes


def load_original(model: CoDino, state: dict[str, Tensor], name: str = "state dict") -> list[str]:
    """Load a state dict with the original's names; strict.

    Args:
        model: any Co-DINO.
        state: tensors of any floating type.
        name: what to call the state dict in an error.

    Returns:
        Keys that were dropped because only training uses them. Each such part (an auxiliary head,
        say) has to be there whole or not at all.

    Raises:
        StateMismatchError: naming every missing, unexpected or misshapen key.
        UserError: a tensor holds NaN or infinity.
    """
    expected = expected_shapes(model)
    found = {key: tuple(tensor.shape) for key, tensor in state.items()}
    dropped = match_shapes(name, found, expected, training_only_shapes(model.config))
    # Training that diverged; found here, because detections say nothing about it.
    broken = [key for key in expected if not state[key].float().isfinite().all()]
    if broken:
        raise UserError(f"{name} holds NaN or infinity in {_listed(broken)}; take an earlier epoch")
    model.load_state_dict(from_original(model, state))
    return dropped


def match_shapes(
    name: str, found: dict[str, Shape], expected: dict[str, Shape], optional: list[dict[str, Shape]]
) -> list[str]:
    """Compare what a state dict holds with what it has to hold.

    Args:
        name: what to call the state dict in an error.
        found: its shapes.
        expected: those that have to be there.
        optional: parts that are there whole or not at all.

    Returns:
        Keys of the optional parts that are there.

    Raises:
        StateMismatchError: naming every missing, unexpected or misshapen key.
    """
    dropped: dict[str, Shape] = {}
    for part in optional:
        if part.keys() & found.keys():
            dropped |= part
    wanted = expected | dropped
    if found != wanted:
        raise StateMismatchError(name, found, wanted)
    return list(dropped)


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], tuple[str, ...] | None]:
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        metadata = file.metadata() or {}
        state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
    classes: Any = metadata.get("classes", "null")  # JSON
    with contextlib.suppress(ValueError):  # _class_names says what it is instead
        classes = json.loads(classes)
    return state, _class_names(path, classes)


def _read_pth(path: Path) -> tuple[dict[str, Tensor], tuple[str, ...] | None]:
    content = torch.load(path, map_location="cpu", weights_only=True)
    match content:
        case {"state_dict": dict(state)} | dict(state) if state and all(
            isinstance(key, str) and isinstance(value, Tensor) for key, value in state.items()
        ):
            return state, _class_names(path, _classes_of(content.get("meta")))
    raise UserError(f"{path} holds no state dict of tensors; give an mmdet checkpoint")


def _classes_of(meta: Any) -> Any:
    """Class names as MMDetection 3, its release candidates and MMDetection 2 store them."""
    match meta:
        case (
            {"dataset_meta": {"classes": classes}}
            | {"dataset_meta": {"CLASSES": classes}}
            | {"CLASSES": classes}
        ):
            return classes
    return None


def _class_names(path: Path, classes: Any) -> tuple[str, ...] | None:
    if not classes:
        return None
    if not isinstance(classes, list | tuple) or not all(isinstance(c, str) for c in classes):
        raise UserError(f"{path} holds class names that are not a list of strings: {classes!r:.80}")
    return tuple(classes)


def _listed(keys: list[str]) -> str:
    return ", ".join(keys[:LISTED]) + (", …" if len(keys) > LISTED else "")


def _explain_pickle(path: Path, error: pickle.UnpicklingError) -> str:
    """Say which global was refused, or that the file is no pickle at all."""
    refused = re.search(r"GLOBAL (\S+)", str(error))
    if refused is None:
        return f"cannot read checkpoint {path}: truncated or not a checkpoint; fetch it again"
    return (
        f"{path} holds code or objects ({refused[1]}), not only tensors, and was not loaded; "
        "save its state_dict alone, or publish it with mmdet's tools/model_converters"
    )
