"""Reads golden cases; the format is described in ``tests/data/golden/README.md``."""

from __future__ import annotations

import contextlib
import json
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from codetr.checkpoint import load_original
from codetr.errors import UserError
from codetr.model import CoDino
from codetr.original_names import expected_shapes
from codetr.presets import CoDinoConfig, ResNetConfig, SwinConfig
from tests.synthetic_weights import fingerprint, synthetic_state

Array = NDArray[Any]

CONFIG = ".config.json"
PRENMS = ("prenms_query", "prenms_labels", "prenms_scores", "prenms_boxes")
FINAL = ("final_labels", "final_scores", "final_boxes")
NEEDED = ("image_rgb_u8", "input", "img_mask", "enc_max_logit", "topk_indices", *PRENMS, *FINAL)
"""Arrays that no case can be checked without."""
RESNET_DEPTHS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
NMS_MODES = {"soft_nms": "soft", "nms": "hard"}
TRANSFORMER_FIELDS = (
    "embed_dims",
    "num_heads",
    "num_points",
    "encoder_layers",
    "decoder_layers",
    "encoder_ffn",
    "decoder_ffn",
)
"""Those that have the same name in ``CoDinoConfig``."""


@dataclass(frozen=True, slots=True)
class Case:
    """One case of the whole model."""

    arrays: dict[str, Array]
    config: CoDinoConfig
    model: str
    """Short name of the model."""
    manifest: dict[str, list[int]]
    """Shapes of the original's tensors."""
    fingerprint: str | None
    """Of the synthetic weights, where the folder tells it."""
    stride: int
    """Every how many channels are stored."""
    use_lsj: bool
    """The original then takes padding for picture."""
    nms: dict[str, Any]
    """Options of ``runtime.postprocess.nms``."""

    def build_model(self) -> CoDino:
        """The model in eval mode with synthetic weights.

        Raises:
            UserError: this numpy draws other weights, or they do not fit.
        """
        model = CoDino(self.config).eval()
        state = synthetic_state(self.manifest)
        load_original(model, {k: torch.from_numpy(v) for k, v in state.items()}, self.model)
        if self.fingerprint is not None:
            found = f"{fingerprint({key: state[key] for key in expected_shapes(model)}):08x}"
            if found != self.fingerprint:
                raise UserError(
                    f"synthetic weights of {self.model} have fingerprint {found}, not "
                    f"{self.fingerprint}; use a numpy that draws the same numbers"
                )
        return model


def case_names(folder: Path) -> list[str]:
    """Cases of the whole model."""
    return sorted(path.name.removesuffix(CONFIG) for path in folder.glob(f"*{CONFIG}"))


def unit_names(folder: Path) -> list[str]:
    """Cases of soft-NMS alone."""
    return sorted(path.stem for path in folder.glob("*_unit.npz"))


def read_case(folder: Path, name: str) -> Case:
    """Read ``name``.config.json, ``name``.npz and the manifest they use.

    Raises:
        UserError: a file is missing or damaged, or lacks something.
    """
    with _explain_unreadable(folder, name):
        description = _read_json(folder / f"{name}{CONFIG}")
        resolved = description["resolved"]
        arrays = _read_arrays(folder / f"{name}.npz")
        if missing := [key for key in NEEDED if key not in arrays]:
            raise KeyError(*missing)
        return Case(
            arrays=arrays,
            config=_config_of(resolved),
            model=resolved["model"],
            manifest=_read_json(folder / description["manifest"]),
            fingerprint=_fingerprint_of(folder, resolved["model"]),
            stride=description["channel_stride"],
            use_lsj=resolved["use_lsj"],
            nms=_nms_options(resolved["test_cfg"]["nms"]),
        )


def read_units(folder: Path, name: str) -> dict[str, dict[str, Array]]:
    """Boxes, scores, labels, dets and keep of every set in ``name``.npz.

    Raises:
        UserError: the file is damaged or lacks something.
    """
    with _explain_unreadable(folder, name):
        arrays = _read_arrays(folder / f"{name}.npz")
        parts = ("boxes", "scores", "labels", "dets", "keep")
        return {
            prefix: {part: arrays[f"{prefix}_{part}"] for part in parts}
            for prefix in sorted({key.partition("_")[0] for key in arrays})
        }


def _config_of(resolved: dict[str, Any]) -> CoDinoConfig:
    backbone, transformer = resolved["backbone"], resolved["transformer"]
    return CoDinoConfig(
        backbone=ResNetConfig(depths=RESNET_DEPTHS[backbone["depth"]])
        if backbone["type"] == "ResNet"
        else SwinConfig(
            embed_dims=backbone["embed_dims"],
            depths=tuple(backbone["depths"]),
            num_heads=tuple(backbone["num_heads"]),
            window_size=backbone["window_size"],
        ),
        num_queries=transformer["num_query"],
        num_classes=resolved["head"]["num_classes"],
        num_levels=transformer["num_feature_levels"],
        max_per_image=resolved["test_cfg"]["max_per_img"],
        **{field: transformer[field] for field in TRANSFORMER_FIELDS},
    )


def _nms_options(options: dict[str, Any]) -> dict[str, Any]:
    return {
        "mode": NMS_MODES[options["type"]],
        "iou_threshold": options["iou_threshold"],
        "min_score": options.get("min_score", 1e-3),
    }


def _fingerprint_of(folder: Path, model: str) -> str | None:
    path = folder / "manifest_summary.json"
    return _read_json(path).get(model, {}).get("fingerprint_eval_keys") if path.is_file() else None


def _read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _read_arrays(path: Path) -> dict[str, Array]:
    with np.load(path) as file:
        return dict(file)


@contextlib.contextmanager
def _explain_unreadable(folder: Path, name: str) -> Iterator[None]:
    """Turn what a damaged or incomplete case raises into one line."""
    try:
        yield
    except KeyError as error:
        raise UserError(f"golden case {name} in {folder} lacks {error}") from error
    except (OSError, EOFError, ValueError, TypeError, zipfile.BadZipFile, zlib.error) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"cannot read golden case {name} in {folder}: {reason}") from error
