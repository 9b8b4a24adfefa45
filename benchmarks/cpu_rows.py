"""Stores what was counted without a GPU, with the machine and versions that it was counted on."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any


def write_rows(
    path: Path, program: str, packages: Iterable[str], rows: list[dict[str, Any]]
) -> None:
    """Write the JSON of a benchmark.

    Args:
        path: where it goes.
        program: module that ran; its arguments are those of this process.
        packages: whose versions matter.
        rows: what was counted.
    """
    from importlib.metadata import version

    from runtime.files import atomic_output
    from runtime.machine import describe_cpu

    machine = describe_cpu() | {name: version(name) for name in packages}
    command = shlex.join(["python", "-m", program, *sys.argv[1:]])
    with atomic_output(path) as temporary:
        content = {"machine": machine, "command": command, "rows": rows}
        temporary.write_text(json.dumps(content, indent=2) + "\n")
