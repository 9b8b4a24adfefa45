"""How a process ends that gets a signal."""

import signal
import subprocess
import sys
import textwrap

import pytest

from tests.faults.attempts import ROOT


def run_main(body, **options):
    """Run a command whose main function has this body; (exit code, stderr)."""
    code = "import os, signal, sys, time\nfrom runtime.stopping import explain, run_stoppable\n"
    code += f"def main():\n{textwrap.indent(textwrap.dedent(body), '    ')}\n"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nrun_stoppable('name', main)"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
        **options,
    )
    return done.returncode, done.stderr


def test_both_sides_have_the_same_file():
    ours, theirs = (
        (ROOT / side / "stopping.py").read_text() for side in ("runtime", "onnx_export")
    )
    assert ours.replace("``onnx_export.stopping``", "``runtime.stopping``") == theirs


@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_exit_codes(name, code):
    body = f"""
        try:
            os.kill(os.getpid(), signal.{name})
            time.sleep(10)
        except KeyboardInterrupt as error:
            return explain("name", error, "cancelled, nothing was written")
    """
    assert run_main(body) == (code, "name: cancelled, nothing was written\n")


def test_signal_that_a_library_makes_another_error_of():
    body = """
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(10)
        except KeyboardInterrupt:
            raise ImportError("numpy.core failed to import") from None
    """
    assert run_main(body) == (143, "name: cancelled\n")
    # The same where a command makes a user's mistake of that.
    body = """
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(10)
        except KeyboardInterrupt:
            return explain("name", ValueError("ONNX Runtime is not installed"))
    """
    assert run_main(body) == (143, "name: cancelled\n")


def test_signal_that_python_drops():
    body = """
        class Noisy:
            def __del__(self):
                os.kill(os.getpid(), signal.SIGTERM)
                time.sleep(0.1)
        Noisy()
        time.sleep(30)
    """
    assert run_main(body) == (143, "name: cancelled\n")


def test_other_threads_are_not_waited_for():
    body = """
        from concurrent.futures import ThreadPoolExecutor
        ThreadPoolExecutor().submit(time.sleep, 30)
        os.kill(os.getpid(), signal.SIGINT)
    """
    assert run_main(body) == (130, "name: cancelled\n")


def test_what_a_shell_started_in_the_background():
    def ignore():
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    assert run_main("os.kill(os.getpid(), signal.SIGINT)\nreturn 0", preexec_fn=ignore) == (0, "")


def test_without_a_signal():
    assert run_main("return 2") == (2, "")
    code, told = run_main("raise ValueError('a bug')")
    assert code == 1
    assert "Traceback" in told
    code, told = run_main("class A:\n    def __del__(self): 1 / 0\nA()\nreturn 0")
    assert code == 0
    assert "ZeroDivisionError" in told
