"""Checkpoints with synthetic weights, in the original's names, for tests."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from tests.synthetic_weights import synthetic_state

GOLDEN = Path(__file__).parent / "data" / "golden"


def state_of(preset: str) -> dict[str, Tensor]:
    """The goldens' weights of a preset, by the original's names."""
    manifest = GOLDEN / f"manifest_{preset.removeprefix('co_dino_')}.json"
    return state_of_shapes(json.loads(manifest.read_text()))


def state_of_shapes(shapes: Mapping[str, Sequence[int]]) -> dict[str, Tensor]:
    """Weights of these shapes, by the original's names."""
    state = synthetic_state(shapes)
    return {key: torch.from_numpy(np.asarray(value)) for key, value in state.items()}


def settled(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same weights with detections that survive rounding, to compare precisions by.

    Random weights are chaotic: rounding nothing but the weights of ``co_dino_swin_tiny`` to
    float16 keeps 14 of 300 detections. Two proposals that swap places swap their learned queries,
    and boxes of a pixel leave an IoU of 0.95 at once. So all queries are made equal here, as the
    goldens do in blocks of 100 for large models, and boxes stay nearer to their proposals.
    """
    settled = dict(state)
    for key, value in state.items():
        if key.endswith("transformer.query_embed.weight"):
            settled[key] = value[:1].repeat(len(value), 1)
        elif "reg_branches" in key and key.endswith(".4.weight"):
            settled[key] = 0.3 * value
    return settled


def write_checkpoint(path: Path, state: dict[str, Tensor]) -> Path:
    """Write a safetensors file."""
    save_file(state, path)
    return path


if __name__ == "__main__":  # PRESET FILE
    write_checkpoint(Path(sys.argv[2]), settled(state_of(sys.argv[1])))
