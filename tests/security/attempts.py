"""Many attempts to read damaged files, and what came of them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).parents[2]
_AT_ONCE = 500
_SECONDS = 300


def outcomes_of(reader: str, file: Path, attempts: Iterable[tuple[str, int]]) -> dict[str, str]:
    """What each attempt of ``tests.security.readers`` came to, by ``KIND:SEED``.

    A process that ends in the middle of one counts as ``crash``; the others are tried in a new one.
    """
    left = [f"{kind}:{seed}" for kind, seed in attempts]
    found: dict[str, str] = {}
    while left:
        part = left[:_AT_ONCE]
        command = [sys.executable, "-m", "tests.security.readers", reader, str(file), *part]
        done = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, timeout=_SECONDS, check=False
        )
        lines = [line.partition(" ") for line in done.stdout.splitlines()]
        part_of = {attempt: what for attempt, _, what in lines if attempt in part}
        if done.returncode:
            last = next(reversed(part_of), None)
            assert last is not None and part_of[last] == "begins", done.stderr
            part_of[last] = f"crash: exit code {done.returncode}"
        found |= part_of
        left = [attempt for attempt in left if attempt not in found]
    return found
