"""Whether an engine can run here, told from its manifest before TensorRT is given the engine."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runtime.errors import UserError


@dataclass(frozen=True, slots=True, kw_only=True)
class Library:
    """What builds and runs engines."""

    name: str
    """What manifests and options call it."""
    title: str
    """What messages call it."""
    module: str
    """The name it is imported by."""
    oldest: str
    """The oldest version that does for our engines."""
    install: str
    """The command that installs it."""

    def require(self, version: str) -> None:
        """Refuse a version that is too old.

        Raises:
            UserError: it is.
        """
        if numbers_of(version) < numbers_of(self.oldest):
            raise UserError(
                f"found {self.title} {version}, and {self.oldest} or newer is needed; "
                f"install it: {self.install}"
            )


TENSORRT = Library(
    name="tensorrt",
    title="TensorRT",
    module="tensorrt",
    oldest="10.6",
    install='pip install "tensorrt>=10.6"',
)
TENSORRT_RTX = Library(
    name="tensorrt-rtx",
    title="TensorRT-RTX",
    module="tensorrt_rtx",
    oldest="1.7",
    install='pip install -e ".[rtx]"',
)
LIBRARIES = {library.name: library for library in (TENSORRT, TENSORRT_RTX)}
"""By the names that manifests use."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What the manifest says about where its engine runs."""

    library: Library
    version: str
    """Of the library, when the engine was built."""
    version_compatible: bool
    """Whether later releases of the same major version run it too."""
    gpu: str | None
    """The GPU it was built on; None for one built without."""
    compute_capabilities: tuple[str, ...]
    """Of the GPUs it was built for; empty where that is not known."""
    any_newer_gpu: bool
    """Whether GPUs from Ampere on run it, whichever it was built on."""

    @classmethod
    def from_manifest(cls, manifest: Mapping[str, Any], engine: Path) -> Recipe:
        """Pick it out of a manifest.

        Args:
            manifest: see ``runtime.manifest``.
            engine: whose manifest it is, for the message.

        Raises:
            UserError: an entry is missing or makes no sense.
        """
        try:
            recipe, built_on = manifest["recipe"], manifest["build"]["machine"]["gpu"]
            options = recipe["options"]
            if recipe["gpu"] is None:
                capabilities = options["compute_capabilities"]
            else:
                capabilities = [built_on["compute_capability"]] if built_on else []
            return cls(
                library=LIBRARIES[recipe["backend"]],
                version=str(recipe["backend_version"]),
                version_compatible=options.get("version_compatible") is True,
                gpu=recipe["gpu"],
                compute_capabilities=tuple(map(str, capabilities)),
                any_newer_gpu=options.get("hardware_compatibility") == "ampere-plus",
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise UserError(
                f"the manifest of {engine} is incomplete ({error}); build the engine again"
            ) from error

    def check_version(self, engine: Path, installed: str) -> None:
        """Refuse a library that does not run this engine.

        Args:
            engine: its path, for the message.
            installed: version of the library that is installed here.

        Raises:
            UserError: it is too old, or another one than built the engine.
        """
        title = self.library.title
        self.library.require(installed)
        here, built = numbers_of(installed), numbers_of(self.version)
        later = self.version_compatible and here[:1] == built[:1] and here >= built
        if here != built and not later:
            raise UserError(
                f"{engine} was built by {title} {self.version} and {installed} is installed; "
                f"build it again, or install {title} {self.version}"
            )

    def check_gpu(self, engine: Path, name: str, compute_capability: str) -> None:
        """Refuse a GPU that the engine was not built for.

        Other models of the same compute capability pass: TensorRT warns of those itself.

        Args:
            engine: its path, for the message.
            name: of the GPU here.
            compute_capability: of the GPU here, e.g. ``9.0``.

        Raises:
            UserError: the engine was not built for such a GPU.
        """
        if self.any_newer_gpu and numbers_of(compute_capability) >= (8,):
            return
        if self.compute_capabilities and compute_capability not in self.compute_capabilities:
            built_for = f"compute capability {' and '.join(self.compute_capabilities)}"
            if self.gpu is not None:
                built_for = f"{self.gpu} ({built_for})"
            raise UserError(
                f"{engine} was built for {built_for}, and this GPU is {name} "
                f"({compute_capability}); build it again for this GPU"
            )


def numbers_of(version: str) -> tuple[int, ...]:
    """``"10.6.0.post1"`` → ``(10, 6, 0)``: what follows does not decide what can be loaded."""
    return tuple(int(number) for number in re.findall(r"\d{1,9}", version)[:3])
