"""The CUDA kernel of window attention, run on the CPU by window_emulation.cpp, against float64."""

import ctypes
from dataclasses import replace

import pytest
import torch

from codetr.window_attn import window_attention
from tests.plugin.problems import FLOAT8, assert_rounded_to_fp8
from tests.plugin.window_problems import DTYPES, HEAD_CHANNELS, LIMITS, exact, make_problem

CASES = {
    "whole_windows": {"size": (24, 36), "heads": 2},
    "padded": {"size": (25, 31), "batch": 2},
    "one_window": {"size": (12, 12), "heads": 3},
    "less_than_a_window": {"size": (5, 3)},
    "window_7": {"size": (14, 21), "window": 7, "heads": 2},
    "window_7_padded": {"size": (15, 20), "window": 7, "batch": 2},
    "window_7_less": {"size": (4, 9), "window": 7, "heads": 3},
    "window_8": {"size": (16, 24), "window": 8, "heads": 2},
    "window_8_padded": {"size": (17, 9), "window": 8, "batch": 2},
}


@pytest.fixture(scope="module")
def emulate(build_folder):
    """Runs the kernel; ``blocks`` share out a head's windows. Reads never meet in a bank."""
    library = ctypes.CDLL(str(build_folder / "libcodetr_emulation.so"))
    library.emulate_windows.restype = ctypes.c_long

    def run(problem, blocks, inverse_scale=None):
        output = problem.empty_output()
        if inverse_scale is not None:
            output = output.to(FLOAT8)
        struct = problem.struct(output, inverse_scale)
        conflicts = library.emulate_windows(ctypes.byref(struct), blocks)
        assert conflicts == 0
        return output

    return run


def problem_of(case, *, shifted, dtype=torch.float32, add_bias=False):
    shift = CASES[case].get("window", 12) // 2 if shifted else 0
    return make_problem(**{"heads": 1} | CASES[case], shift=shift, add_bias=add_bias).to(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shifted", [False, True], ids=["in_place", "shifted"])
@pytest.mark.parametrize("case", CASES)
def test_agrees_with_float64(emulate, case, shifted, dtype):
    problem = problem_of(case, shifted=shifted, dtype=DTYPES[dtype])
    # One block takes all windows of a head; two go on to different ones.
    output = emulate(problem, 1 if CASES[case].get("heads", 1) > 1 else min(problem.windows, 2))
    assert (output - exact(problem)).abs().max() < LIMITS[dtype]  # NaN: not written


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shifted", [False, True], ids=["in_place", "shifted"])
@pytest.mark.parametrize("case", ["one_window", "less_than_a_window", "window_7_less"])
def test_adds_the_bias_of_qkv(emulate, case, shifted, dtype):
    problem = problem_of(case, shifted=shifted, dtype=DTYPES[dtype], add_bias=True)
    output = emulate(problem, 1)
    assert (output - exact(problem)).abs().max() < LIMITS[dtype]


@pytest.mark.parametrize("add_bias", [False, True], ids=["with_bias", "add_bias"])
@pytest.mark.parametrize("shifted", [False, True], ids=["in_place", "shifted"])
@pytest.mark.parametrize("case", CASES)
def test_outputs_in_fp8_are_rounded_to_the_nearest(emulate, case, shifted, add_bias):
    problem = problem_of(case, shifted=shifted, dtype=torch.float16, add_bias=add_bias)
    scale = torch.tensor([200.0])  # some are above the largest value of fp8
    output = emulate(problem, 1, scale)
    assert_rounded_to_fp8(output, exact(problem) * 200, LIMITS["fp16"] * 200)


@pytest.mark.parametrize("dtype", DTYPES)
def test_adds_large_biases(emulate, dtype):
    problem = problem_of("window_8_padded", shifted=True, dtype=DTYPES[dtype], add_bias=True)
    large = torch.tensor([2, 64, 8]).repeat_interleave(HEAD_CHANNELS)  # queries, keys, values
    problem = replace(problem, padding=problem.padding * large)
    output = emulate(problem, 2)
    assert (output - exact(problem)).abs().max() < 2 * LIMITS[dtype]  # outputs are of about 8


@pytest.mark.parametrize("add_bias", [False, True], ids=["with_bias", "add_bias"])
@pytest.mark.parametrize("shifted", [False, True], ids=["in_place", "shifted"])
@pytest.mark.parametrize("case", CASES)
def test_reference_agrees_with_the_model(case, shifted, add_bias):
    problem = problem_of(case, shifted=shifted, add_bias=add_bias)
    qkv = problem.qkv + problem.padding if add_bias else problem.qkv
    tensors = (qkv, problem.padding, problem.bias)
    model = window_attention(*tensors, problem.window, problem.shift)
    assert torch.allclose(model.double(), exact(problem), atol=1e-5)
