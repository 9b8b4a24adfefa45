"""What several test files of this folder use."""

import pytest

from tests.trt_build.tiny_models import save_conv
from trt_build.cli import main


@pytest.fixture(scope="session")
def onnx(tmp_path_factory):
    """A good ONNX file; not to be changed."""
    return save_conv(tmp_path_factory.mktemp("onnx") / "m.ref.onnx")


@pytest.fixture
def refused(capsys):
    """Run a command that must fail as a user's mistake; returns its message."""

    def run(*arguments):
        assert main([str(argument) for argument in arguments]) == 2
        captured = capsys.readouterr()
        assert captured.out == ""
        assert captured.err.startswith("trt_build: error: ")
        return captured.err.removeprefix("trt_build: error: ")

    return run
