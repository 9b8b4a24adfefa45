"""What is asked for before TensorRT is loaded, and what its errors mean."""

import pytest

from runtime.errors import UserError
from runtime.tensorrt_log import make_logger
from trt_build.backend import BACKENDS, choose_backend
from trt_build.failures import reason_of_failure
from trt_build.requirements import driver_problem


@pytest.mark.parametrize("version", ["10.6.0", "10.6.0.post1", "10.15.1.29", "11.2.1.2"])
def test_versions_that_do(version):
    BACKENDS["tensorrt"].require(version)


@pytest.mark.parametrize("version", ["10.5.0", "8.6.1.post1", "9.3.0"])
def test_versions_that_are_too_old(version):
    with pytest.raises(UserError) as caught:
        BACKENDS["tensorrt"].require(version)
    assert str(caught.value) == (
        f"found TensorRT {version}, and 10.6 or newer is needed; "
        'install it: pip install "tensorrt>=10.6"'
    )


def test_versions_of_tensorrt_rtx():
    BACKENDS["tensorrt-rtx"].require("1.7.1.116")
    with pytest.raises(UserError, match=r"1\.7 or newer is needed"):
        BACKENDS["tensorrt-rtx"].require("1.0.0.21")


def test_the_cuda_version_is_read_from_the_package():
    assert choose_backend("tensorrt-rtx").cuda_major() in (12, 13)
    assert BACKENDS["tensorrt"].cuda_major() >= 12


@pytest.mark.parametrize(
    ("driver", "cuda", "needed"),
    [("525.60.13", "12.0", 12), ("580.159.03", "13.0", 12), ("580.65.06", "13.0", 13)],
)
def test_drivers_that_do(driver, cuda, needed):
    assert driver_problem(driver, cuda, needed) is None


@pytest.mark.parametrize(
    ("driver", "cuda", "needed", "words"),
    [
        ("470.82.01", "11.4", 12, "CUDA 12, 525 or newer, and driver 470.82.01 is for CUDA 11.4"),
        ("550.54.14", "12.4", 13, "CUDA 13, 580 or newer, and driver 550.54.14 is for CUDA 12.4"),
        ("580.65.06", "13.0", 14, "CUDA 14, and driver 580.65.06 is for CUDA 13.0; update"),
        ("580.65.06", None, 12, "driver 580.65.06 is there but its libcuda.so.1 is not"),
    ],
)
def test_drivers_that_do_not(driver, cuda, needed, words):
    problem = driver_problem(driver, cuda, needed)
    assert problem is not None
    assert words in problem


@pytest.mark.parametrize(
    "error",
    [
        "[virtualMemoryBuffer.cpp::resizePhysical::145] Error Code 2: OutOfMemory (Requested size "
        "was 17179869184 bytes.)",
        "[defaultAllocator.cpp::allocate::31] Error Code 1: Cuda Runtime (out of memory)",
    ],
)
def test_a_full_gpu(error):
    last = "IBuilder::buildSerializedNetwork: Error Code 10: Internal Error (Could not find any)"
    reason = reason_of_failure([error] * 40 + [last])
    assert reason.startswith("the GPU's memory is full; close other programs on it, or give a sm")
    assert reason.count(error) == 1
    assert reason.endswith(f"; {last})")


def test_no_lean_runtime():
    reason = reason_of_failure(["Unable to load library: libnvinfer_lean.so.10: cannot open"])
    assert "pip install tensorrt-lean" in reason


def test_other_failures_keep_their_words():
    assert reason_of_failure(["first", "second"]) == "first; second"
    many = [f"error {i}" for i in range(9)]
    assert reason_of_failure(many) == "6 more errors; error 6; error 7; error 8"


def test_a_harmless_warning_is_dropped(capsys):
    trt = BACKENDS["tensorrt-rtx"].load()
    warning = trt.ILogger.Severity.WARNING
    harmless = "ModelImporter.cpp:1303: Make sure output labels has Int64 binding."
    logger = make_logger(trt)
    logger.log(warning, harmless)
    assert capsys.readouterr().err == ""
    logger.log(warning, harmless.replace("labels", "boxes"))
    assert "output boxes has Int64" in capsys.readouterr().err
    make_logger(trt, verbose=True).log(warning, harmless)
    assert "output labels has Int64" in capsys.readouterr().err
