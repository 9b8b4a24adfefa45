"""Turns ``BuildOptions`` into a TensorRT builder configuration."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

from runtime.errors import UserError
from runtime.files import atomic_output
from trt_build.network import Profile
from trt_build.options import BuildOptions

_GIB = 1 << 30


def make_config(trt: ModuleType, builder: Any, options: BuildOptions) -> Any:
    """A builder configuration with these options.

    Raises:
        UserError: a compute capability or compatibility level that this version does not have.
    """
    config = builder.create_builder_config()
    config.profiling_verbosity = getattr(
        trt.ProfilingVerbosity, _member_name(options.profiling_verbosity)
    )
    if hasattr(trt.BuilderFlag, "TF32"):
        # On by default; float32 was asked for where an answer needs it, TF32 keeps 10 bits.
        config.clear_flag(trt.BuilderFlag.TF32)
    if options.workspace_gib is not None:
        limit = int(options.workspace_gib * _GIB)
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, limit)
    if options.optimization_level is not None:
        config.builder_optimization_level = options.optimization_level
    if options.aux_streams is not None:
        config.max_aux_streams = options.aux_streams
    if options.hardware_compatibility != "none":
        level = hardware_compatibility_level(trt, options.hardware_compatibility)
        config.hardware_compatibility_level = level
    if options.version_compatible:
        config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
    if options.compute_capabilities:
        _set_compute_capabilities(trt, config, options.compute_capabilities)
    return config


def hardware_compatibility_level(trt: ModuleType, option: str) -> Any:
    """The member of ``trt.HardwareCompatibilityLevel`` for one of ``HARDWARE_COMPATIBILITIES``.

    Raises:
        UserError: this version has no such level.
    """
    members = trt.HardwareCompatibilityLevel.__members__
    if _member_name(option) not in members:
        raise UserError(
            f"{trt.__name__} {trt.__version__} has no hardware compatibility {option} (10.9 "
            "brought same-compute-capability); take another or install a newer version"
        )
    return members[_member_name(option)]


def add_profile(builder: Any, config: Any, profile: Profile) -> None:
    """Tell the builder which shapes the inputs may take; nothing to tell if they are fixed."""
    if profile:
        optimization_profile = builder.create_optimization_profile()
        for name, shapes in profile.items():
            optimization_profile.set_shape(name, *shapes)
        config.add_optimization_profile(optimization_profile)


def load_timing_cache(config: Any, path: Path) -> Any:
    """Let the builder use the kernel times in a file; an empty cache if there is no file yet."""
    cache = config.create_timing_cache(path.read_bytes() if path.exists() else b"")
    config.set_timing_cache(cache, ignore_mismatch=False)
    return cache


def save_timing_cache(cache: Any, path: Path) -> None:
    """Write the cache back, with what the build added to it."""
    with atomic_output(path) as file:
        file.write_bytes(cache.serialize())


def _member_name(option: str) -> str:
    """``"ampere-plus"`` → ``"AMPERE_PLUS"``."""
    return option.upper().replace("-", "_")


def _set_compute_capabilities(trt: ModuleType, config: Any, capabilities: tuple[str, ...]) -> None:
    """``("8.9",)`` → ``[trt.ComputeCapability.SM89]``."""
    members = trt.ComputeCapability.__members__
    # SM75 is 7.5, SM120 is 12.0. NONE and CURRENT are members too.
    supported = {f"{name[2:-1]}.{name[-1]}": m for name, m in members.items() if name[2:].isdigit()}
    unknown = [capability for capability in capabilities if capability not in supported]
    if unknown:
        raise UserError(
            f"{trt.__name__} {trt.__version__} does not build for compute capability "
            f"{', '.join(unknown)}; choose from {', '.join(supported)}"
        )
    config.num_compute_capabilities = len(capabilities)
    for index, capability in enumerate(capabilities):
        config.set_compute_capability(supported[capability], index)
