"""The JSON file beside an engine that says what the engine is: ``model.engine.json``.

Keys: ``manifest_version``; ``engine`` and ``onnx`` (file, bytes, sha256); ``recipe`` (all that
decides what is built: an engine with an equal recipe is reused); ``model`` (what the exporter
said); ``io`` (tensors and their batch profile); ``layers`` (see ``trt_build.layers``);
``build`` (seconds and the machine).

An engine counts only together with a manifest that holds its hash. So a file that was cut short,
exchanged, or left over from another build is never taken for a good one, in whatever order the
two files came into being.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from runtime.errors import UserError
from runtime.files import sha256_of
from runtime.json_text import parse_json

MANIFEST_VERSION = 1


def manifest_path(engine: Path) -> Path:
    """Where the manifest of an engine lies: ``model.engine`` → ``model.engine.json``."""
    return engine.with_name(engine.name + ".json")


def read_manifest(engine: Path) -> dict[str, Any]:
    """Read the manifest beside an engine and check that it is this very engine's.

    Raises:
        UserError: no engine, no manifest, not one of this version, or another engine's.
    """
    path = manifest_path(engine)
    try:
        manifest = parse_json(path.read_bytes())
        version, wanted = manifest["manifest_version"], str(manifest["engine"]["sha256"])
    except OSError as error:
        raise UserError(
            f"cannot read {path}, the manifest of {engine}: {error.strerror}; "
            "keep the two files together, or build the engine again"
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is not a manifest of ours; build the engine again") from error
    if version != MANIFEST_VERSION:
        raise UserError(
            f"{path} has version {version}, this program reads {MANIFEST_VERSION}; "
            "build the engine again"
        )
    try:
        found = sha256_of(engine)
    except OSError as error:
        raise UserError(f"cannot read {engine}: {error.strerror}") from error
    if found != wanted:
        raise UserError(
            f"{engine} is not the engine that {path.name} describes: its SHA-256 is "
            f"{found[:12]}…, not {wanted[:12]}…; build it again"
        )
    return manifest
