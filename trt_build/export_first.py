"""Checkpoint → ONNX files beside the engine, by the exporter in a process of its own.

PyTorch and the memory it takes are gone when that process ends, before TensorRT builds.
"""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from plugin import library_path
from runtime.errors import UserError
from runtime.files import sha256_of
from runtime.manifest import manifest_path
from trt_build.backend import Backend
from trt_build.onnx_file import read_onnx
from trt_build.requirements import require_writable

_NEEDED = "onnx_export torch safetensors onnx onnxscript onnx_graphsurgeon onnxruntime".split()
_INSTALL = 'pip install -e ".[export]"'
_GRACE_SECONDS = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportRequest:
    """What ``python -m onnx_export`` is asked for."""

    preset: str
    weights: Path
    height: int | list[int]
    """Of the padded input, in pixels; or the smallest and the largest."""
    width: int | list[int]
    precision: str = "fp32"
    mask: bool = True
    dynamic_batch: bool = False
    calibration: Path | None = None
    """For fp8: a folder of pictures or a scales file."""
    kernels: str = "all"

    def arguments(self, onnx: Path) -> list[str]:
        """The exporter's command line."""
        batch = "dynamic" if self.dynamic_batch else "1"
        return [
            f"--preset={self.preset}",
            f"--weights={self.weights}",
            f"--height={_written(self.height)}",
            f"--width={_written(self.width)}",
            f"--precision={self.precision}",
            f"--kernels={self.kernels}",
            f"--batch={batch}",
            *([] if self.mask else ["--no-mask"]),
            *([f"--calibration={self.calibration}"] if self.calibration else []),
            f"--output={onnx}",
        ]

    def metadata(self) -> dict[str, Any]:
        """What the exporter writes into its files about this request; scales are in a file."""
        scales = {"calibration_sha256": sha256_of(self.calibration)} if self.calibration else {}
        return {
            "preset": self.preset,
            "height": self.height,
            "width": self.width,
            "precision": self.precision,
            "kernels": self.kernels,
            "batch": "dynamic" if self.dynamic_batch else 1,
            "mask": self.mask,
            "weights_sha256": sha256_of(self.weights),
            **scales,
        }


def _written(side: int | list[int]) -> str:
    return ":".join(map(str, side)) if isinstance(side, list) else str(side)


def onnx_paths(engine: Path) -> tuple[Path, Path]:
    """Where the ONNX files of an engine lie: with the plugin's node, and in plain ONNX."""
    return engine.with_suffix(".onnx"), engine.with_suffix(".ref.onnx")


def export_first(
    request: ExportRequest,
    engine: Path,
    *,
    backend: Backend,
    plugin_library: Path | None,
    force: bool,
) -> tuple[int, Path]:
    """Export beside the engine, unless the same ONNX files are there already.

    Args:
        request: what to export.
        engine: the engine that is to be built.
        backend: what is to build it.
        plugin_library: our built plugin; ``None`` takes the one in the package.
        force: export in any case.

    Returns:
        The exporter's exit code, and the ONNX that the backend builds from.

    Raises:
        UserError: what the export or the build after it would refuse.
        KeyboardInterrupt: Ctrl-C was pressed; the exporter has ended and written nothing.
    """
    _require_exporter(request.weights)
    if backend.runs_plugins:
        library_path(plugin_library)
    paths = onnx_paths(engine)
    require_writable(paths)
    for path in (engine, manifest_path(engine), *paths):
        if path.resolve() == request.weights.resolve():
            raise UserError(f"{path} would overwrite the checkpoint; choose another -o")
    if engine in paths:
        raise UserError(f"{engine} is where the ONNX goes; give the engine another name")
    code = 0
    if not force and is_exported(request, paths):
        both = f"{paths[0]} and {paths[1].name}"
        print(f"{both} are up to date (same weights and settings)", file=sys.stderr)
    else:
        code = _run_exporter(request, paths[0])
    return code, paths[0] if backend.runs_plugins else paths[1]


def _require_exporter(weights: Path) -> None:
    if not weights.is_file():
        raise UserError(f"no checkpoint at {weights}; give an mmdet .pth or .safetensors")
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        raise UserError(f"an export needs {', '.join(missing)}; install it: {_INSTALL}")


def is_exported(request: ExportRequest, paths: tuple[Path, Path]) -> bool:
    """Whether both ONNX files are there, made from these weights with these settings."""
    if not all(path.is_file() for path in paths):
        return False
    if request.calibration is not None and not request.calibration.is_file():
        return False  # a folder's pictures may be others than last time
    try:
        wanted = request.metadata().items()
        return all(wanted <= read_onnx(path).model.items() for path in paths)
    except (UserError, OSError):  # not whole, or not ours; or weights that cannot be read
        return False


def _run_exporter(request: ExportRequest, onnx: Path) -> int:
    """Run the exporter, which tells its progress and its errors on stderr; returns its exit code.

    Raises:
        UserError: it was killed.
        KeyboardInterrupt: Ctrl-C was pressed; the exporter has ended.
    """
    command = [sys.executable, "-m", "onnx_export", *request.arguments(onnx)]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=sys.stderr.fileno())
    try:
        code = process.wait()
    except KeyboardInterrupt:
        # A terminal sends Ctrl-C to both processes, others to this one alone. A second signal
        # could disturb the exporter while it removes its temporary files, so it comes late.
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_GRACE_SECONDS)
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            process.wait()
        raise
    finally:
        if process.poll() is None:  # Ctrl-C again
            process.kill()
            process.wait()
    if code < 0:
        raise UserError(
            f"the export was killed by {signal.Signals(-code).name}; perhaps this machine's memory "
            "was full: close other programs"
        )
    return code
