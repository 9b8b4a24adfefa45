"""Runs code in a fresh Python."""

import contextlib
import os
import subprocess
import sys
import textwrap


def run_python(code, *arguments, **options):
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        **options,
    )


def run_on_terminal(command, **options):
    """Run a command whose stderr is a terminal; (exit code, stdout, what the terminal showed)."""
    master, terminal = os.openpty()
    env = os.environ | {"TERM": "xterm", "COLUMNS": "200"}
    with subprocess.Popen(command, env=env, stderr=terminal, stdout=-1, **options) as process:
        os.close(terminal)
        shown = b""
        with contextlib.suppress(OSError):  # how Linux says that the terminal was closed
            while chunk := os.read(master, 4096):
                shown += chunk
        output = process.stdout.read()
        code = process.wait()
    os.close(master)
    return code, output, shown
