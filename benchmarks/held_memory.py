"""Whether the memory that a long run holds stays flat."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from runtime.backend import needs_gpu

LIMITS = {"rss": 32 << 20, "device": 8 << 20}
"""Bytes that each kind of memory may grow by."""
SAMPLES = 200
"""What a long run is to take, about."""
_FEWEST = 10
"""With fewer samples nothing is said."""


class Memory:
    """Samples of what this process holds of the host's memory, and all processes of the GPU's."""

    def __init__(self, model: Path) -> None:
        """Take none yet; the GPU is asked only if the model file runs on it."""
        self._on_gpu = needs_gpu(model)
        self.samples: list[tuple[int, int, int | None]] = []

    def sample(self, done: int) -> None:
        """Take one after so many runs; a line for each tenth of a long run."""
        self.samples.append((done, resident_bytes(), device_bytes() if self._on_gpu else None))
        if len(self.samples) % (SAMPLES // 10) == 0:
            _, rss, device = self.samples[-1]
            on_gpu = "" if device is None else f", device {megabytes(device)}"
            print(f"after {done}: rss {megabytes(rss)}{on_gpu}", flush=True)

    def to_json(self) -> dict[str, Any]:
        """The samples, and whether each kind of memory is flat."""
        values = {"rss": [rss for _, rss, _ in self.samples]}
        values["device"] = [device for *_, device in self.samples if device is not None]
        found = {kind: flatness(values[kind], limit) for kind, limit in LIMITS.items()}
        return {"samples": self.samples, **found}


def flatness(values: Sequence[int], limit: int) -> dict[str, Any] | None:
    """Compare the median of the last tenth with that of the first; None with too few to tell.

    Args:
        values: bytes, in the order of time, after the warm-up.
        limit: bytes by which the last tenth may be above the first.
    """
    if len(values) < _FEWEST:
        return None
    tenth = len(values) // 10
    first, last = (statistics.median(part) for part in (values[:tenth], values[-tenth:]))
    return {"first": first, "last": last, "limit": limit, "flat": last - first <= limit}


def resident_bytes() -> int:
    """Memory of this process that is in RAM."""
    lines = Path("/proc/self/status").read_text().splitlines()
    (line,) = [line for line in lines if line.startswith("VmRSS:")]
    return 1024 * int(line.split()[1])  # "VmRSS:   12345 kB"


def device_bytes() -> int:
    """Memory of the GPU that is in use, by whomever."""
    from runtime.cuda import memory_info

    free, total = memory_info()
    return total - free


def megabytes(nbytes: float) -> str:
    """For people."""
    return f"{nbytes / 1e6:.1f} MB"
