"""Full TensorRT for machines without a GPU: libraries from Maven, bindings from PyPI.

There is no GPU here, so only the plugin registry can be used: a builder would abort the process.
"""

import fcntl
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from plugin.build import ROOT

VERSIONS = {
    "10.6": ("10.6-1.5.11", "tensorrt-cu12-bindings==10.6.0"),
    "11.2": ("11.2-1.5.14", "tensorrt-cu13-bindings==11.2.1.2"),
}
_LIBRARIES = ("libnvinfer.so", "libnvinfer_plugin.so", "libnvonnxparser.so")


def environment(version):
    """Variables with which ``import tensorrt`` finds this version; fetches it the first time."""
    folder = ROOT / "build" / "tensorrt" / version
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / "lock").open("w") as lock:  # pytest-xdist runs several sessions at once
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "complete").exists():
            _fetch(folder, *VERSIONS[version])
    return {
        **os.environ,
        "PYTHONPATH": f"{folder / 'python'}:{ROOT}",
        "LD_LIBRARY_PATH": str(folder / "lib"),
    }


def _fetch(folder, jar, bindings):
    if shutil.which("mvn") is None:
        pytest.skip("TensorRT's libraries come from Maven: found no mvn")
    shutil.rmtree(folder, ignore_errors=True)
    python = folder / "python"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", python]
    if subprocess.run([*pip, bindings], check=False).returncode != 0:
        pytest.skip(f"{bindings} has no wheel for this Python")
    # The wheel is a part of another one that would give it its name.
    (python / "tensorrt.py").write_text(
        "from tensorrt_bindings import *\nfrom tensorrt_bindings import __version__\n"
    )
    artifact = f"org.bytedeco:tensorrt:{jar}:jar:linux-x86_64-redist"
    # Not from Maven's own folder: where that is depends on more than HOME.
    copy = ["mvn", "-q", "dependency:copy", f"-Dartifact={artifact}", f"-DoutputDirectory={folder}"]
    subprocess.run(copy, check=True, cwd=folder)
    (file,) = folder.glob("*.jar")
    with zipfile.ZipFile(file) as archive:
        for name in archive.namelist():
            if Path(name).name.startswith(_LIBRARIES):
                _extract(archive, name, folder / "lib" / Path(name).name)
    file.unlink()
    (folder / "complete").touch()


def _extract(archive, name, path):
    path.parent.mkdir(exist_ok=True)
    with archive.open(name) as source, path.open("wb") as target:
        shutil.copyfileobj(source, target)
