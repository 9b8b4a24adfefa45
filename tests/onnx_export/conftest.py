"""Exports are slow (half a minute each): every one is made once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from onnx_export.export import ExportConfig, export
from tests.synthetic_checkpoint import settled, state_of, write_checkpoint


@dataclass(frozen=True)
class Exported:
    """The two files of one export, and what was reported meanwhile."""

    plugin: Path
    reference: Path
    weights: Path
    report: list[str]


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Exported]:
    """``exported(preset, height=…, …)``: as ExportConfig; ``stable`` for settled weights."""
    made: dict[Any, Exported] = {}

    def make(preset: str, *, stable: bool = False, **options: Any) -> Exported:
        key = (preset, stable, *sorted(options.items()))
        if key not in made:
            folder = tmp_path_factory.mktemp("export")
            state = state_of(preset)
            weights = write_checkpoint(
                folder / "weights.safetensors", settled(state) if stable else state
            )
            report: list[str] = []
            config = ExportConfig(preset=preset, weights=weights, **options)
            paths = export(config, folder / "model.onnx", report.append)
            made[key] = Exported(*paths, weights, report)
        return made[key]

    return make
