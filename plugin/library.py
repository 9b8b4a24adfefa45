"""Where the built library is, and how TensorRT gets to know it."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import plugin
from runtime.errors import UserError

LIBRARY_NAME = "libcodetr_plugin.so"
_BUILD = "python -m plugin build"


def library_path(explicit: Path | None = None) -> Path:
    """The plugin library: ``explicit``, else the one that was built into this package.

    Raises:
        UserError: there is none.
    """
    if explicit is not None:
        if not explicit.is_file():
            raise UserError(f"there is no plugin library {explicit}; build one: {_BUILD}")
        return explicit
    built = Path(__file__).with_name(LIBRARY_NAME)
    if not built.is_file():
        raise UserError(f"the plugin is not built; build it: {_BUILD}")
    return built


def load(trt: ModuleType, path: Path | None = None) -> Path:
    """Make the plugins known to TensorRT, unless they are already; returns the library's path.

    Args:
        trt: the imported ``tensorrt`` (or ``tensorrt_rtx``) module.
        path: the library, if not the one in this package.

    Raises:
        UserError: there is no library, or this TensorRT cannot use it.
    """
    library = library_path(path)
    registry = trt.get_plugin_registry()

    def are_known() -> bool:
        creators = (registry.get_creator(name, "1", "") for name in plugin.OP_TYPES)
        return all(creator is not None for creator in creators)

    if not are_known():
        # Its result says nothing: the handle is null in either case.
        registry.load_library(str(library.resolve()))
    if not are_known():
        raise UserError(
            f"{trt.__name__} {trt.__version__} cannot load the plugin library {library}; "
            f"it takes one of TensorRT 10.6 or newer, built by: {_BUILD}"
        )
    return library
