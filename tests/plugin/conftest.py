"""The plugin, compiled for the tests."""

import fcntl
import os
import shutil
import subprocess

import pytest

from plugin.build import ROOT, build_plugin

ARCHITECTURES = "80;90-real"
"""What the library is compiled for: fewer than for users, because each takes its time."""


def missing_tools():
    """What the plugin cannot be compiled without, and this machine does not have."""
    missing = [tool for tool in ("cmake", "c++") if shutil.which(tool) is None]
    if "TENSORRT_INCLUDE_DIR" not in os.environ:
        # Run, because a rustup without a toolchain leaves a cargo that does nothing.
        cargo = shutil.which("cargo")
        if cargo is None or subprocess.run([cargo, "--version"], check=False).returncode:
            missing.append("cargo (for TensorRT's headers)")
    return missing


@pytest.fixture(scope="session")
def build_folder():
    """Holds libcodetr_plugin.so and what CODETR_BUILD_TESTS adds.

    Only what changed since the last run is compiled again.
    """
    if missing := missing_tools():
        pytest.skip(f"the plugin cannot be compiled without {', '.join(missing)}")
    folder = ROOT / "build" / "plugin-tests"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:  # pytest-xdist runs several sessions at once
        fcntl.flock(lock, fcntl.LOCK_EX)
        build_plugin(folder, architectures=ARCHITECTURES, tests=True, install=False)
    return folder
