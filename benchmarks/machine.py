"""What the figures were measured on."""

from __future__ import annotations

from typing import Any

from runtime.gpu_monitor import gpu_monitor, summarize_states


def gpu_facts() -> dict[str, Any]:
    """Name, driver, clocks and power of the GPU in use, as they are now: ask while it is warm."""
    with gpu_monitor() as monitor:
        return monitor.facts() | summarize_states([monitor.state()])
