"""How large the inputs of the quantised products get: measured once, kept in a file.

A scale maps the largest value that was seen to the largest of fp8. E4M3 has an exponent in every
value, so that its relative precision hardly depends on the scale: to clip large values, as INT8
needs it, gains nothing here.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from codetr.errors import UserError
from codetr.model import CoDino

E4M3_MAX = 448.0
"""Largest finite value of fp8 (E4M3)."""
_LARGEST_SCALE = 65504.0
"""Of float16, which scales are stored in."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """Scales of a model's inputs, and where they come from."""

    preset: str
    weights_sha256: str
    height: int
    """Of the input they were measured at, in pixels; others will do."""
    width: int
    pictures: int
    scales: dict[str, float]
    """Value of an fp8 one, by module path of the linear layer that takes the input."""

    def to_json(self) -> str:
        """The text of a scales file."""
        return json.dumps(asdict(self), indent=2) + "\n"


def read_calibration(path: Path) -> Calibration:
    """Read a scales file.

    Raises:
        UserError: it is not there, or not a scales file.
    """
    try:
        calibration = Calibration(**json.loads(path.read_text(encoding="utf-8")))
        if not isinstance(calibration.scales, dict):
            raise TypeError("scales are no table")
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise UserError(
            f"cannot read {path} as a scales file ({error}); give a .scales.json that an export "
            "in fp8 wrote, or a folder of pictures"
        ) from error
    return calibration


def check_calibration(
    calibration: Calibration, *, preset: str, weights_sha256: str, products: Sequence[str]
) -> None:
    """Refuse scales of another model, and scales that cannot be.

    Raises:
        UserError: naming what does not fit.
    """
    for name, found, wanted in (
        ("preset", calibration.preset, preset),
        ("weights", calibration.weights_sha256, weights_sha256),
    ):
        if found != wanted:
            raise UserError(
                f"the scales are of {name} {found}, not {wanted}; give --calibration a folder of "
                "pictures to measure them anew"
            )
    scales = calibration.scales
    if odd := sorted(set(scales) ^ set(products)):
        raise UserError(
            f"the scales are of other layers ({odd[0]} and {len(odd) - 1} more); give "
            "--calibration a folder of pictures to measure them anew"
        )
    for path, scale in scales.items():
        if not (isinstance(scale, float) and 0 < scale <= _LARGEST_SCALE):  # refuses NaN too
            raise UserError(
                f"the scale of {path} is {scale}, not a positive number of float16; check the "
                "weights, and calibrate with pictures like those the model was trained for"
            )


def measure_scales(
    model: CoDino,
    products: Sequence[str],
    inputs: Iterable[tuple[Tensor, Tensor]],
    report: Callable[[str], None],
) -> dict[str, float]:
    """Run the model and record the largest absolute input of each product.

    Args:
        model: in eval mode, float32.
        products: module paths of linear layers.
        inputs: arguments of the model.
        report: called after each of them.

    Returns:
        Scale by module path.
    """
    largest = dict.fromkeys(products, 0.0)

    def recorder(path: str) -> Callable[[nn.Module, tuple[Any, ...]], None]:
        def record(_: nn.Module, arguments: tuple[Any, ...]) -> None:
            found = arguments[0].abs().amax().item()
            # max() would lose a NaN on one side.
            largest[path] = found if math.isnan(found) else max(largest[path], found)

        return record

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model.to(device)
    hooks = [
        model.get_submodule(path).register_forward_pre_hook(recorder(path)) for path in products
    ]
    try:
        with torch.no_grad():
            for count, arguments in enumerate(inputs, 1):
                model(*(tensor.to(device) for tensor in arguments))
                report(f"calibrating: {count} pictures")
    finally:
        for hook in hooks:
            hook.remove()
        model.cpu()
    return {path: value / E4M3_MAX for path, value in largest.items()}
