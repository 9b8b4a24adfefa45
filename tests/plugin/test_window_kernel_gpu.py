"""The kernel of window attention on a GPU against float64; "large" as in test_kernel_gpu.py."""

import ctypes
from dataclasses import replace

import pytest
import torch

from tests.plugin.problems import FLOAT8, assert_rounded_to_fp8
from tests.plugin.window_problems import DTYPES, LIMITS, exact, make_problem

pytestmark = pytest.mark.gpu

CASES = {
    "whole_windows": {"size": (24, 36)},
    "padded": {"size": (25, 31), "batch": 2},
    "one_window": {"size": (12, 12), "heads": 3},
    "less_than_a_window": {"size": (5, 3)},
    "stage": {"size": (80, 120), "heads": 24},
    "small_stage_batch_2": {"size": (40, 60), "heads": 48, "batch": 2},
    "more_heads_than_blocks": {"size": (24, 24), "heads": 700},
    "window_7": {"size": (15, 20), "window": 7},
    "window_8": {"size": (17, 9), "window": 8, "batch": 2},
}


@pytest.fixture
def kernel(build_folder):
    """The launch function: takes a problem and an output, returns the CUDA error code."""
    library = ctypes.CDLL(str(build_folder / "libcodetr_kernel_test.so"))

    def launch(problem, output, inverse_scale=None):
        stream = ctypes.c_void_p(torch.cuda.current_stream().cuda_stream)
        struct = problem.struct(output, inverse_scale)
        return library.codetr_window_attn(ctypes.byref(struct), stream)

    return launch


def run(kernel, problem):
    output = problem.empty_output()
    assert kernel(problem, output) == 0
    torch.cuda.synchronize()
    return output


@pytest.mark.parametrize("add_bias", [False, True], ids=["with_bias", "add_bias"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shifted", [False, True], ids=["in_place", "shifted"])
@pytest.mark.parametrize("case", CASES)
def test_agrees_with_float64(kernel, case, shifted, dtype, add_bias):
    shift = CASES[case].get("window", 12) // 2 if shifted else 0
    problem = make_problem(**CASES[case], shift=shift, add_bias=add_bias)
    problem = problem.to(DTYPES[dtype], "cuda")
    output = run(kernel, problem)
    assert output.isfinite().all()
    assert (output - exact(problem)).abs().max() < LIMITS[dtype]


@pytest.mark.parametrize("add_bias", [False, True], ids=["with_bias", "add_bias"])
@pytest.mark.parametrize("shifted", [False, True], ids=["in_place", "shifted"])
@pytest.mark.parametrize("case", CASES)
def test_outputs_in_fp8_are_rounded_to_the_nearest(kernel, case, shifted, add_bias):
    shift = CASES[case].get("window", 12) // 2 if shifted else 0
    problem = make_problem(**CASES[case], shift=shift, add_bias=add_bias)
    problem = problem.to(torch.float16, "cuda")
    output = problem.empty_output().to(FLOAT8)
    scale = torch.tensor([200.0], device="cuda")  # some are above the largest value of fp8
    assert kernel(problem, output, scale) == 0
    assert_rounded_to_fp8(output, exact(problem) * 200, LIMITS["fp16"] * 200)


@pytest.mark.parametrize("dtype", DTYPES)
def test_large_tensor_of_more_than_2_31_elements(kernel, dtype):
    problem = make_problem((12, 12), batch=2**31 // (144 * 96) + 2, heads=1, device="cuda")
    problem = problem.to(DTYPES[dtype], "cuda")
    output = run(kernel, problem)
    last = replace(problem, qkv=problem.qkv[-1:])
    assert (output[-1:] - exact(last)).abs().max() < LIMITS[dtype]


@pytest.mark.parametrize("add_bias", [False, True], ids=["with_bias", "add_bias"])
def test_runs_are_equal_bit_for_bit(kernel, add_bias):
    problem = make_problem(**CASES["stage"], shift=6, add_bias=add_bias).to(torch.float16, "cuda")
    assert torch.equal(run(kernel, problem), run(kernel, problem))


def test_a_cuda_graph_captures_it(kernel):
    problem = make_problem(**CASES["padded"], shift=6).to(torch.float16, "cuda")
    output = problem.empty_output()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        assert kernel(problem, output) == 0
    problem.qkv.normal_()  # the replay has to see what the buffers hold by then
    graph.replay()
    torch.cuda.synchronize()
    assert torch.equal(output, run(kernel, problem))


@pytest.mark.parametrize(
    "wrong",
    [{"window": 9}, {"shift": 5}, {"heads": 0}, {"batch": -1}, {"type": 0}, {"height": 2**31 - 1}],
    ids=str,
)
def test_what_has_no_kernel_is_refused(build_folder, wrong):
    library = ctypes.CDLL(str(build_folder / "libcodetr_kernel_test.so"))
    problem = make_problem((12, 12)).to(torch.float16, "cuda")
    struct = problem.struct(problem.empty_output())
    for name, number in wrong.items():
        setattr(struct, name, number)
    invalid_value = 1
    assert library.codetr_window_attn(ctypes.byref(struct), None) == invalid_value
