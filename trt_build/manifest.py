"""Writes engines with their manifests, and finds out whether one is there already.

What a manifest holds is said in ``runtime.manifest``, which reads it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from runtime.errors import UserError
from runtime.files import atomic_output, room_for
from runtime.manifest import manifest_path, read_manifest
from trt_build.manifest_form import what_is_wrong


def describe_file(path: Path, sha256: str, size: int) -> dict[str, Any]:
    """The form in which a manifest names a file."""
    return {"file": path.name, "sha256": sha256, "bytes": size}


def read_whole_manifest(engine: Path) -> dict[str, Any]:
    """As ``read_manifest``, with all the entries that ``build_engine`` writes.

    Raises:
        UserError: as there, or an entry is missing or makes no sense.
    """
    manifest = read_manifest(engine)
    if problem := what_is_wrong(manifest):
        raise UserError(f"the manifest of {engine} is incomplete ({problem}); build it again")
    return manifest


def current_manifest(engine: Path, recipe: dict[str, Any]) -> dict[str, Any] | None:
    """The manifest of an intact engine that was built by this recipe, or None."""
    try:
        manifest = read_whole_manifest(engine)
    except UserError:
        return None
    return manifest if manifest.get("recipe") == recipe else None


def write_engine(engine: Path, plan: Any, manifest: dict[str, Any]) -> None:
    """Write an engine and its manifest, each whole or not at all.

    Args:
        engine: where the engine goes; the manifest goes beside it.
        plan: the serialised engine, anything with the buffer protocol.
        manifest: what to write beside it; holds the plan's hash already.

    Raises:
        UserError: the folder cannot be written, or the disk is full.
    """
    with (
        atomic_output(engine) as engine_file,
        atomic_output(manifest_path(engine)) as manifest_file,
        room_for(engine),
    ):
        engine_file.write_bytes(plan)
        text = json.dumps(manifest, indent=2, ensure_ascii=False) + "\n"
        manifest_file.write_text(text, encoding="utf-8")
