"""ONNX → engine: refuse what cannot work, parse, build, and write the engine with its manifest."""

from __future__ import annotations

import hashlib
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from plugin import library_path
from plugin import load as load_plugin
from runtime.errors import UserError
from runtime.files import sha256_of
from runtime.manifest import MANIFEST_VERSION, manifest_path
from runtime.shapes import ShapeRange, size_range
from runtime.tensorrt_log import make_logger, one_line
from trt_build.backend import Backend
from trt_build.config import add_profile, load_timing_cache, make_config, save_timing_cache
from trt_build.failures import reason_of_failure
from trt_build.known_issues import known_issues
from trt_build.layers import layers_of_network, layers_of_plan
from trt_build.lock import only_build_of
from trt_build.machine import describe_machine
from trt_build.manifest import current_manifest, describe_file, write_engine
from trt_build.network import describe_io, input_profile, parse_onnx
from trt_build.onnx_file import read_onnx
from trt_build.options import BuildOptions
from trt_build.progress import make_monitor, run_cancellable, spinner
from trt_build.requirements import require_gpu, require_writable

# What layers put out in an engine of each precision: how the engine inspector's name begins.
_OUTPUT_TYPES = {"fp32": "Float", "fp16": "Half", "bf16": "BFloat16", "fp8": "FP8"}


@dataclass(frozen=True, slots=True)
class BuildResult:
    """An engine that lies on disk."""

    manifest: dict[str, Any]
    """What the file beside it says (see ``trt_build.manifest``)."""
    reused: bool
    """True if it was there before, built by the same recipe."""


def build_engine(
    onnx: Path,
    engine: Path,
    *,
    backend: Backend,
    options: BuildOptions,
    timing_cache: Path | None = None,
    plugin_library: Path | None = None,
    force: bool = False,
    verbose: bool = False,
) -> BuildResult:
    """Build an engine and its manifest, unless the same engine is there already.

    Where another process builds it, that one is waited for.

    Args:
        onnx: an ONNX file from ``onnx_export``.
        engine: where the engine goes; its manifest goes beside it.
        backend: what builds it (see ``trt_build.backend.choose_backend``).
        options: how to build it.
        timing_cache: kernel times, read before the build and written back after it. Not one of
            the options, for it changes how long a build takes and not what is asked for.
        plugin_library: our built plugin; ``None`` takes the one in the package. It goes into the
            engine, which then runs where the plugin is not installed.
        force: build even if an engine with the same recipe is there.
        verbose: print all that the backend logs.

    Raises:
        UserError: a file, an option or a network that cannot be used. Nothing was written.
        KeyboardInterrupt: the build was cancelled. Nothing was written.
    """
    options, gpu = check_request(
        engine, backend=backend, options=options, timing_cache=timing_cache
    )
    _check_onnx(onnx, (engine, manifest_path(engine), *([timing_cache] if timing_cache else [])))
    library = _plugin_library(backend, plugin_library)
    recipe = {
        "onnx_sha256": sha256_of(onnx),
        "plugin_sha256": sha256_of(library) if library else None,
        "backend": backend.name,
        "backend_version": backend.version(),
        "gpu": gpu,
        "options": options.to_json(),
    }
    with only_build_of(engine):
        if not force and (manifest := current_manifest(engine, recipe)) is not None:
            return BuildResult(manifest=manifest, reused=True)
        return _build(onnx, engine, backend, options, recipe, timing_cache, library, verbose)


def _build(
    onnx: Path,
    engine: Path,
    backend: Backend,
    options: BuildOptions,
    recipe: dict[str, Any],
    timing_cache: Path | None,
    library: Path | None,
    verbose: bool,
) -> BuildResult:
    """Build and write; arguments as ``build_engine``, ``recipe`` as the manifest's."""
    summary = read_onnx(onnx)
    if summary.plugin_ops and not backend.runs_plugins:
        raise UserError(
            f"{onnx} holds plugin nodes ({', '.join(summary.plugin_ops)}), which "
            f"{backend.title} cannot run; give {onnx.with_suffix('.ref.onnx').name}"
        )
    sizes = _sizes(onnx, summary.model)
    trt = backend.load()
    logger = make_logger(trt, verbose=verbose)
    start = time.perf_counter()
    plugin = (library or library_path()) if summary.plugin_ops else None
    plan, description = _build_plan(trt, logger, onnx, sizes, options, timing_cache, plugin)
    seconds = time.perf_counter() - start
    _check_precision(onnx, summary.model, description["layers"])
    machine = describe_machine()
    if recipe["gpu"] is not None:  # built by TensorRT, for the GPU of this machine
        capability = machine["gpu"]["compute_capability"]
        precision = summary.model.get("precision", "fp32")
        for issue in known_issues(recipe["backend_version"], capability, precision):
            print(f"{trt.__name__}: warning: {issue}", file=sys.stderr)
    manifest = {
        "manifest_version": MANIFEST_VERSION,
        "engine": describe_file(engine, hashlib.sha256(plan).hexdigest(), plan.nbytes),
        "onnx": describe_file(onnx, recipe["onnx_sha256"], onnx.stat().st_size),
        "recipe": recipe,
        **description,
        "build": {"seconds": round(seconds, 3), "machine": machine},
        "model": summary.model,
    }
    write_engine(engine, plan, manifest)
    return BuildResult(manifest=manifest, reused=False)


def check_request(
    engine: Path, *, backend: Backend, options: BuildOptions, timing_cache: Path | None
) -> tuple[BuildOptions, str | None]:
    """Refuse what can be refused before there is an ONNX.

    Returns:
        The options with the backend's defaults, and the GPU that the engine is for: None if the
        backend builds for others than this machine's.

    Raises:
        UserError: an option, a path, the backend or this machine cannot be used.
    """
    options = options.for_backend(backend)
    if timing_cache is not None and not backend.times_kernels:
        raise UserError(
            f"{backend.title} times no kernels while it builds, so a timing cache has no effect; "
            "leave --timing-cache out"
        )
    require_writable(path for path in (engine, manifest_path(engine), timing_cache) if path)
    # Asked before the library is: TensorRT 10.6 aborts the process where there is no GPU.
    gpu = None if backend.cross_compiles else require_gpu(backend)
    backend.require(backend.version())
    return options, gpu


def _check_onnx(onnx: Path, outputs: Sequence[Path]) -> None:
    """Refuse a file that is not there, or that would be overwritten."""
    if not onnx.is_file():
        raise UserError(
            f"{onnx} is {'a folder' if onnx.is_dir() else 'not there'}; give an ONNX file"
        )
    for output in outputs:
        if output.resolve() == onnx.resolve():
            raise UserError(
                f"{output} would overwrite the ONNX it is built from; choose another -o"
            )


def _plugin_library(backend: Backend, explicit: Path | None) -> Path | None:
    """The plugin that may go into the engine; None if it is not built, for plain ONNX needs none.

    Raises:
        UserError: it was named, and is not there.
    """
    if not backend.runs_plugins:
        return None
    try:
        return library_path(explicit)
    except UserError:
        if explicit is not None:
            raise
        return None


def _build_plan(
    trt: ModuleType,
    logger: Any,
    onnx: Path,
    sizes: ShapeRange | None,
    options: BuildOptions,
    timing_cache: Path | None,
    plugin: Path | None,
) -> tuple[Any, dict[str, Any]]:
    """Build the serialised engine; returns it with the manifest's ``io`` and ``layers``."""
    if plugin is not None:
        load_plugin(trt, plugin)
    builder = trt.Builder(logger)
    config = make_config(trt, builder, options)
    if plugin is not None:
        config.plugins_to_serialize = [str(plugin)]
    with spinner(f"building {onnx.name} with {trt.__name__} {trt.__version__}") as on_phase:
        on_phase("parsing")
        network, _parser = parse_onnx(trt, builder, logger, onnx)
        profile = input_profile(network, options.batch, sizes)
        add_profile(builder, config, profile)
        cache = load_timing_cache(config, timing_cache) if timing_cache else None
        config.progress_monitor = monitor = make_monitor(trt, on_phase)
        plan = run_cancellable(
            lambda: builder.build_serialized_network(network, config),
            cancel=lambda: setattr(monitor, "cancelled", True),
        )
    errors = [one_line(message) for message in logger.errors]
    if plan is None:
        raise UserError(f"{trt.__name__} could not build {onnx}: {reason_of_failure(errors)}")
    for error in dict.fromkeys(errors):  # the backend complained and yet went on
        print(f"{trt.__name__}: warning: {error}", file=sys.stderr)
    if timing_cache is not None:
        save_timing_cache(cache, timing_cache)
    layers = None
    if options.profiling_verbosity == "detailed":  # or the engine does not tell
        allowed = options.version_compatible
        layers = layers_of_plan(trt, logger, plan, host_code_allowed=allowed)
    return plan, {
        "io": describe_io(network, profile),
        "layers": layers or layers_of_network(network),
    }


def _sizes(onnx: Path, model: dict[str, Any]) -> ShapeRange | None:
    """The heights and widths that an ONNX was exported for; None if they are fixed."""
    try:
        return size_range(model)
    except ValueError as error:
        raise UserError(f"{onnx} is not a Co-DETR model: {error}; export it again") from error


def _check_precision(onnx: Path, model: dict[str, Any], layers: dict[str, Any]) -> None:
    """Refuse an engine in which the precision that the ONNX was exported for is not to be found."""
    precision = model.get("precision")
    if precision not in _OUTPUT_TYPES:
        return
    wanted = _OUTPUT_TYPES[precision].lower()
    if not any(found.lower().startswith(wanted) for found in layers["output_types"]):
        raise UserError(
            f"{onnx} was exported for {precision}, but no layer of the engine computes in it "
            f"({layers['source']}: {layers['output_types']}); export it again"
        )
