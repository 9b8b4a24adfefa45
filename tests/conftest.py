"""Shared by all tests: exports, of which each is made once, and what ``gpu`` means."""

from __future__ import annotations

import ctypes
import functools
import os
import signal
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

# A shell lets its background jobs ignore Ctrl-C, and their children would inherit that: tests send
# it to some.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@dataclass(frozen=True)
class Exported:
    """The two files of one export, and what was reported meanwhile."""

    plugin: Path
    reference: Path
    weights: Path
    report: list[str]


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Exported]:
    """``exported(preset, height=…, …)``: as ExportConfig; ``stable`` for settled weights."""
    from onnx_export.export import ExportConfig, export
    from tests.synthetic_checkpoint import settled, state_of, write_checkpoint

    made: dict[Any, Exported] = {}

    def make(preset: str, *, stable: bool = False, **options: Any) -> Exported:
        key = (preset, stable, *sorted(options.items()))
        if key not in made:
            folder = tmp_path_factory.mktemp("export")
            state = state_of(preset)
            weights = write_checkpoint(
                folder / "weights.safetensors", settled(state) if stable else state
            )
            report: list[str] = []
            config = ExportConfig(preset=preset, weights=weights, **options)
            paths = export(config, folder / "model.onnx", report.append)
            made[key] = Exported(paths[0], paths[1], weights, report)
        return made[key]

    return make


@pytest.fixture(scope="session")
def timing_cache(pytestconfig: pytest.Config) -> Path:
    """Kernel times of the tests' engines; pytest keeps them, so only the first run is slow."""
    return pytestconfig.cache.mkdir("tensorrt") / "timing.cache"  # type: ignore[union-attr]


@functools.cache
def has_gpu() -> bool:
    """Asks the driver, so that no CUDA library has to be imported."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    count = ctypes.c_int()
    return driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0 < count.value


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip GPU tests where there is no GPU."""
    if item.get_closest_marker("gpu") and not has_gpu():
        pytest.skip("found no NVIDIA GPU")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, Any]:
    """With ``REQUIRE_GPU=1`` a skipped GPU test is a failed one."""
    report = yield
    required = os.environ.get("REQUIRE_GPU") == "1" and item.get_closest_marker("gpu")
    if required and report.skipped:
        report.outcome = "failed"
        report.longrepr = f"skipped although REQUIRE_GPU=1: {report.longrepr[2]}"
    return report
