"""What decides how an engine is built; part of the recipe that its manifest keeps."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from runtime.errors import UserError
from trt_build.backend import Backend

# Ada, the GPUs of the RTX 40 series: the most common ones that an engine without a GPU is for.
_DEFAULT_COMPUTE_CAPABILITIES = ("8.9",)

HARDWARE_COMPATIBILITIES = ("none", "ampere-plus", "same-compute-capability")
PROFILING_VERBOSITIES = ("detailed", "layer-names-only", "none")
_MOST_AUX_STREAMS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildOptions:
    """Options of one build. ``None`` means: as the backend would have it.

    Precision is not among them: it was decided in the ONNX, and networks are strongly typed.

    Raises:
        UserError: a value that no backend takes.
    """

    workspace_gib: float | None = None
    """Most scratch memory a layer may use on the GPU, in GiB. None: all the GPU has."""

    optimization_level: int | None = None
    """0 to 5: how long to search for fast kernels (backend's default 3). No effect in
    TensorRT-RTX, which picks kernels on the machine that runs the engine."""

    compute_capabilities: tuple[str, ...] = ()
    """GPUs to build for, as "8.9". TensorRT-RTX only; TensorRT builds for the GPU it finds."""

    batch: tuple[int, int, int] | None = None
    """Smallest, most common and largest batch of an ONNX with a dynamic batch. None: 1, 1, 8."""

    aux_streams: int | None = None
    """Most CUDA streams beside the caller's that layers may run on at the same time."""

    hardware_compatibility: str = "none"
    """Which other GPUs the engine is to run on: one of ``HARDWARE_COMPATIBILITIES``."""

    version_compatible: bool = False
    """Whether later TensorRT releases of the same major version are to run the engine. It then
    holds code that runs on the host, which a runtime executes only if it is told to."""

    profiling_verbosity: str = "detailed"
    """What the engine tells of its layers: one of ``PROFILING_VERBOSITIES``. Only a detailed one
    tells in which precision they compute."""

    def __post_init__(self) -> None:
        """Refuse absurd values and bring compute capabilities into one order."""
        if self.workspace_gib is not None and not 0 < self.workspace_gib < 1024:
            raise UserError(f"--workspace takes GiB, more than 0, got {self.workspace_gib:g}")
        if self.optimization_level is not None and not 0 <= self.optimization_level <= 5:
            raise UserError(f"--optimization-level takes 0 to 5, got {self.optimization_level}")
        if self.aux_streams is not None and not 0 <= self.aux_streams <= _MOST_AUX_STREAMS:
            raise UserError(f"--aux-streams takes 0 to {_MOST_AUX_STREAMS}, got {self.aux_streams}")
        for option, value, choices in (
            ("--hardware-compatibility", self.hardware_compatibility, HARDWARE_COMPATIBILITIES),
            ("--profiling-verbosity", self.profiling_verbosity, PROFILING_VERBOSITIES),
        ):
            if value not in choices:
                raise UserError(f"{option} takes {', '.join(choices)}, got {value!r}")
        for capability in self.compute_capabilities:
            if not re.fullmatch(r"[0-9]{1,2}\.[0-9]", capability):
                raise UserError(
                    f"--compute-capability takes numbers like 8.9 (RTX 40) or 12.0 (RTX 50), "
                    f"got {capability!r}"
                )
        if self.batch is not None and not 1 <= self.batch[0] <= self.batch[1] <= self.batch[2]:
            raise UserError(
                f"--batch takes MIN,OPT,MAX with 1 <= MIN <= OPT <= MAX, "
                f"got {','.join(map(str, self.batch))}"
            )
        ordered = sorted(set(self.compute_capabilities), key=float)
        object.__setattr__(self, "compute_capabilities", tuple(ordered))

    def for_backend(self, backend: Backend) -> BuildOptions:
        """These options with the backend's defaults filled in.

        Raises:
            UserError: an option that this backend does not have.
        """
        for field in fields(self):
            if field.name in backend.lacks and getattr(self, field.name) != field.default:
                raise UserError(
                    f"{backend.title} has no --{field.name.replace('_', '-')}; leave it out"
                )
        if backend.cross_compiles:
            targets = self.compute_capabilities or _DEFAULT_COMPUTE_CAPABILITIES
            return replace(self, compute_capabilities=targets)
        if self.compute_capabilities:
            raise UserError(
                f"{backend.title} builds for the GPU of this machine; "
                "leave --compute-capability out or use --backend tensorrt-rtx"
            )
        return self

    @classmethod
    def from_json(cls, options: dict[str, Any]) -> BuildOptions:
        """What ``to_json`` gave.

        Raises:
            UserError: something else, as a damaged manifest may hold it.
        """
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in options.items()
        }
        try:
            return cls(**values)
        except (TypeError, ValueError, LookupError) as error:
            raise UserError(f"these are no options of a build: {error}") from error

    def to_json(self) -> dict[str, Any]:
        """The options as they look after a round trip through JSON, which knows no tuples."""
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in asdict(self).items()
        }
