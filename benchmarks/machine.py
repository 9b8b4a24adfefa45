"""What the figures were measured on."""

from __future__ import annotations

import subprocess

FIELDS = "driver_version,clocks.sm,clocks.mem,clocks.max.sm,temperature.gpu,power.draw,power.limit"


def gpu_facts() -> dict[str, str]:
    """Name, driver, clocks and power of the first GPU, as they are now: ask while it is warm."""
    fields = f"name,{FIELDS}"
    query = ["nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader", "--id=0"]
    values = subprocess.run(query, capture_output=True, text=True, check=True).stdout.strip()
    names = ["gpu", *FIELDS.replace(".", "_").split(",")]
    return dict(zip(names, values.split(", "), strict=True))
