"""Facts about this machine for stored figures; nothing that tells whose it is."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any


def describe_cpu() -> dict[str, Any]:
    """Processor, how many cores this process may use, and Python."""
    return {
        "cpu": processor(),
        "cpu_count": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
    }


def processor() -> str:
    """The processor's name; ``platform.processor()`` is empty on most Linux systems."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())
