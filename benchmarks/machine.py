"""What the figures were measured on."""

from __future__ import annotations

import sys
from typing import Any

from runtime.machine import describe_cpu

_LIBRARIES = ("tensorrt", "tensorrt_rtx", "onnxruntime")


def gpu_facts() -> dict[str, Any]:
    """Name, driver, clocks and power of the GPU in use, as they are now: ask while it is warm."""
    from runtime.gpu_monitor import gpu_monitor, summarize_states

    with gpu_monitor() as monitor:
        return monitor.facts() | summarize_states([monitor.state()])


def machine_facts(*, on_gpu: bool) -> dict[str, Any]:
    """Processor, versions of the libraries that are loaded, and the GPU if that was used."""
    loaded = {name: sys.modules[name].__version__ for name in _LIBRARIES if name in sys.modules}
    return describe_cpu() | loaded | (gpu_facts() if on_gpu else {})
