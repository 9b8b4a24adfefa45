"""The library that builds the engine: TensorRT or TensorRT-RTX, chosen at run time.

Both speak one API; everything else in this package takes the imported module as ``trt`` and uses
only names that TensorRT 10.6 to 11.x and TensorRT-RTX share, or asks for them with ``hasattr``.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re
from dataclasses import asdict, dataclass
from types import ModuleType

from runtime.compatibility import TENSORRT, TENSORRT_RTX, Library
from runtime.errors import UserError

_OLDEST_CUDA = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Backend(Library):
    """What must be known about a library before it is imported."""

    runs_plugins: bool
    """Whether a plugin node of ours can be built. TensorRT-RTX refuses plugin libraries."""
    cross_compiles: bool
    """Whether it builds for GPUs that are not in this machine, given their compute capability."""
    times_kernels: bool
    """Whether the builder times kernels on the GPU, so that a timing cache can help. TensorRT-RTX
    leaves that to the machine that runs the engine; its timing cache calls do nothing since 1.2
    and only make the builder look for a GPU."""
    lacks: frozenset[str] = frozenset()
    """Fields of ``BuildOptions`` that it does not have, though some of its calls are there."""

    def version(self) -> str:
        """Version of the installed package, read without importing it (an import is slow)."""
        package = self._package()
        # No package: the libraries of a tar file, say.
        return importlib.metadata.version(package) if package else str(self.load().__version__)

    def cuda_major(self) -> int:
        """The CUDA version it was made for, which its package is named after: 13."""
        found = re.search(r"cu(\d+)", self._package() or "")
        return int(found[1]) if found else _OLDEST_CUDA

    def _package(self) -> str | None:
        """Which package holds the module: one for each CUDA version, ``tensorrt_cu13``."""
        packages = importlib.metadata.packages_distributions().get(self.module, [])
        return packages[0] if packages else None

    def load(self) -> ModuleType:
        """Import it.

        Raises:
            UserError: it is installed, but a library that it needs is missing or does not fit.
        """
        try:
            return importlib.import_module(self.module)
        except (ImportError, OSError) as error:
            raise UserError(
                f"{self.title} is installed but cannot be loaded: {error}; "
                f"install it again: {self.install}"
            ) from error


BACKENDS = {
    backend.name: backend
    for backend in (
        Backend(
            **asdict(TENSORRT),
            runs_plugins=True,
            cross_compiles=False,
            times_kernels=True,
        ),
        Backend(
            **asdict(TENSORRT_RTX),
            runs_plugins=False,
            cross_compiles=True,
            times_kernels=False,
            # Of 1.7: the engine is the same with any number of streams, compatibility levels are
            # not supported, and the lean runtime that version compatibility needs is not shipped.
            lacks=frozenset({"aux_streams", "hardware_compatibility", "version_compatible"}),
        ),
    )
}


def choose_backend(name: str | None = None) -> Backend:
    """The backend called ``name``; by default the first one that is installed, TensorRT first.

    Raises:
        UserError: no such backend, or it is not installed.
    """
    if name is not None and name not in BACKENDS:
        raise UserError(f"no backend is called {name!r}; choose from {', '.join(BACKENDS)}")
    wanted = [BACKENDS[name]] if name else list(BACKENDS.values())
    for backend in wanted:
        spec = importlib.util.find_spec(backend.module)
        # A folder that happens to be called "tensorrt" has a spec too, but no origin.
        if spec is not None and spec.origin is not None:
            return backend
    titles = " nor ".join(backend.title for backend in wanted)
    commands = " or ".join(backend.install for backend in reversed(wanted))
    raise UserError(f"found no {titles}; install it: {commands}")
