"""Clocks, temperature, power and other users of the GPU that CUDA uses, asked of NVML."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any, TypeVar

from runtime.cuda import Gpu, current_gpu

T = TypeVar("T")

# Values of NVML's C interface: cuda-bindings changes the names of its enums between versions.
_CLOCK_SM, _CLOCK_MEMORY = 1, 2
_TEMPERATURE_OF_GPU = 0
_NOT_AVAILABLE = 2**64 - 1

_SLOWDOWNS = {
    0x04: "power cap",
    0x08: "hardware slowdown",
    0x20: "thermal slowdown by the driver",
    0x40: "thermal slowdown by the hardware",
    0x80: "power brake of the machine",
}
"""Why a GPU runs slower than it could, by the bit that NVML has for each."""


@dataclass(frozen=True, slots=True)
class GpuState:
    """The GPU at one moment; None for what it does not tell."""

    sm_mhz: int | None
    memory_mhz: int | None
    temperature_c: int | None
    power_w: float | None
    slowdowns: frozenset[str]
    other_processes: int
    """Processes beside this one that use the GPU for computing."""
    process_bytes: int | None
    """Device memory that this process holds."""


class GpuMonitor:
    """Asks NVML about one GPU; made by ``gpu_monitor``."""

    def __init__(self, gpu: Gpu, nvml: ModuleType | None) -> None:
        """Find the GPU.

        Args:
            gpu: what to ask about.
            nvml: the initialised ``cuda.bindings.nvml``; without it every answer is None.
        """
        self.gpu = gpu
        self._nvml = nvml
        # By its place on the bus: CUDA and NVML number the GPUs of a machine differently.
        self._handle = self._call("device_get_handle_by_pci_bus_id_v2", gpu.pci_bus_id)

    def facts(self) -> dict[str, Any]:
        """What stays as it is, for a JSON."""
        cuda = self._call("system_get_cuda_driver_version_v2")
        return {
            "gpu": self.gpu.name,
            "compute_capability": self.gpu.compute_capability,
            "driver": self._call("system_get_driver_version"),
            "cuda": cuda and f"{cuda // 1000}.{cuda % 1000 // 10}",
            "max_sm_mhz": self._ask("device_get_max_clock_info", _CLOCK_SM),
            "max_memory_mhz": self._ask("device_get_max_clock_info", _CLOCK_MEMORY),
            "power_limit_w": _watts(self._ask("device_get_enforced_power_limit")),
        }

    def state(self) -> GpuState:
        """How the GPU is now."""
        listed = self._ask("device_get_compute_running_processes_v3")
        processes = [] if listed is None else [(int(p.pid), int(p.used_gpu_memory)) for p in listed]
        return GpuState(
            sm_mhz=self._ask("device_get_clock_info", _CLOCK_SM),
            memory_mhz=self._ask("device_get_clock_info", _CLOCK_MEMORY),
            temperature_c=self._ask("device_get_temperature_v", _TEMPERATURE_OF_GPU),
            power_w=_watts(self._ask("device_get_power_usage")),
            slowdowns=slowdowns_of(self._ask("device_get_current_clocks_event_reasons") or 0),
            other_processes=max(0, len(processes) - 1),
            process_bytes=own_memory(processes, os.getpid()),
        )

    def _ask(self, function: str, *args: int) -> Any:
        return None if self._handle is None else self._call(function, self._handle, *args)

    def _call(self, function: str, *args: Any) -> Any:
        if self._nvml is None:
            return None
        try:
            return getattr(self._nvml, function)(*args)
        # Not every GPU tells everything; RuntimeError: an older driver lacks the function.
        except (self._nvml.NvmlError, RuntimeError):
            return None


@contextlib.contextmanager
def gpu_monitor() -> Iterator[GpuMonitor]:
    """A monitor of the GPU that CUDA uses.

    Raises:
        CudaError: CUDA has no GPU.
    """
    gpu, nvml = current_gpu(), _open_nvml()
    try:
        yield GpuMonitor(gpu, nvml)
    finally:
        if nvml is not None:
            nvml.shutdown()


def _open_nvml() -> ModuleType | None:
    try:
        from cuda.bindings import nvml
    except ImportError:
        return None
    try:
        nvml.init_v2()
    except (nvml.NvmlError, RuntimeError):  # RuntimeError: the driver comes without the library
        return None
    return nvml


def slowdowns_of(reasons: int) -> frozenset[str]:
    """Words for those bits that mean a slowdown; an idle GPU has another one set."""
    return frozenset(words for bit, words in _SLOWDOWNS.items() if reasons & bit)


def own_memory(processes: Sequence[tuple[int, int]], pid: int) -> int | None:
    """Bytes that this process holds on the GPU; None if NVML does not tell.

    Args:
        processes: number and bytes of each, as NVML lists them.
        pid: of this process. In a container NVML may know it by another number; a process that
            is the only one must be this one.
    """
    own = [nbytes for number, nbytes in processes if number == pid or len(processes) == 1]
    return own[0] if own and own[0] != _NOT_AVAILABLE else None


def _watts(milliwatts: int | None) -> float | None:
    return None if milliwatts is None else milliwatts / 1000


def watch(
    rounds: Iterable[T], monitor: GpuMonitor, states: list[GpuState], *, start: int, every: int
) -> Iterator[T]:
    """Pass ``rounds`` on, and between them add the state of the GPU to ``states``.

    Args:
        rounds: what is measured, one element for each time.
        monitor: whom to ask.
        states: where the answers go.
        start: the first round before which to ask.
        every: rounds from one question to the next; one more comes at the end.
    """
    for index, item in enumerate(rounds):
        if index >= start and (index - start) % every == 0:
            states.append(monitor.state())
        yield item
    states.append(monitor.state())


def summarize_states(states: Sequence[GpuState]) -> dict[str, Any]:
    """Lowest and highest of each figure, and whatever disturbed the run, for a JSON."""
    figures: dict[str, Any] = {"samples": len(states)}
    for name in ("sm_mhz", "memory_mhz", "temperature_c", "power_w"):
        values = [value for state in states if (value := getattr(state, name)) is not None]
        figures[name] = [min(values), max(values)] if values else None
    figures["slowdowns"] = sorted({reason for state in states for reason in state.slowdowns})
    figures["other_processes"] = max((state.other_processes for state in states), default=0)
    return figures
