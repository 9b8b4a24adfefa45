"""The kernels of the norm on a GPU against float64; "large" as in test_kernel_gpu.py."""

import ctypes
from dataclasses import replace

import pytest
import torch

from tests.plugin.norm_problems import DTYPES, exact, make_problem
from tests.plugin.problems import error_in_ulps

pytestmark = pytest.mark.gpu

CASES = {
    "odd": {"size": (19, 23)},
    "batch_3": {"size": (10, 15), "batch": 3},
    "one_token": {"size": (1, 1)},
    "groups_of_4": {"size": (33, 31), "channels": 128, "batch": 2},
    "groups_of_24": {"size": (40, 60), "channels": 96, "groups": 4},
    "widest": {"size": (9, 7), "channels": 2048},
    "large_mean": {"size": (40, 60), "mean": 1000.0},
    "level_4": {"size": (20, 30)},
    "level_1": {"size": (160, 240)},
    "large": {"size": (320, 480), "batch": 2},
}


@pytest.fixture
def library(build_folder):
    loaded = ctypes.CDLL(str(build_folder / "libcodetr_kernel_test.so"))
    loaded.codetr_group_norm_workspace.restype = ctypes.c_size_t
    return loaded


@pytest.fixture
def kernel(library):
    """The launch function: takes a problem and an output, returns the CUDA error code."""

    def launch(problem, output):
        size = library.codetr_group_norm_workspace(len(problem.x), problem.groups)
        # What a layer before has left; kept by the function until the next call.
        launch.workspace = torch.full((size // 4,), torch.nan, device="cuda")
        struct = problem.struct(output, launch.workspace)
        stream = ctypes.c_void_p(torch.cuda.current_stream().cuda_stream)
        return library.codetr_group_norm(ctypes.byref(struct), stream)

    return launch


def run(kernel, problem):
    output = problem.empty_output()
    assert kernel(problem, output) == 0
    torch.cuda.synchronize()
    return output


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", CASES)
def test_agrees_with_float64(kernel, case, dtype):
    problem = make_problem(**CASES[case]).to(DTYPES[dtype], "cuda")
    output = run(kernel, problem)
    assert output.isfinite().all()
    assert error_in_ulps(output, exact(problem)) <= 0.6


@pytest.mark.parametrize("dtype", DTYPES)
def test_large_tensor_of_more_than_2_31_elements(kernel, dtype):
    batch = 2**31 // (320 * 480 * 256) + 2
    problem = make_problem((320, 480), device="cuda")
    x = problem.x.to(DTYPES[dtype]).expand(batch, -1, -1, -1).contiguous()
    x[-1] += 1
    problem = replace(problem, x=x)
    output = run(kernel, problem)
    last = replace(problem, x=problem.x[-1:])
    assert error_in_ulps(output[-1:], exact(last)) <= 0.6


@pytest.mark.parametrize("case", ["level_1", "groups_of_4"])
def test_runs_are_equal_bit_for_bit(kernel, case):
    problem = make_problem(**CASES[case]).to(torch.float16, "cuda")
    assert torch.equal(run(kernel, problem), run(kernel, problem))


def test_a_cuda_graph_captures_it(kernel):
    problem = make_problem(**CASES["batch_3"]).to(torch.float16, "cuda")
    output = problem.empty_output()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        assert kernel(problem, output) == 0
    problem.x.normal_()  # the replay has to see what the buffers hold by then
    graph.replay()
    torch.cuda.synchronize()
    assert torch.equal(output, run(kernel, problem))


@pytest.mark.parametrize(
    "wrong",
    [
        {"channels": 260},
        {"channels": 4096},
        {"groups": 3},
        {"groups": 0},
        {"batch": -1},
        {"batch": 1 << 16},
        {"height": 1 << 20, "width": 1 << 11},
        {"type": 0},
        {"workspace": None},
        {"x": 8},
    ],
    ids=str,
)
def test_what_has_no_kernel_is_refused(library, wrong):
    problem = make_problem((12, 12)).to(torch.float16, "cuda")
    workspace = torch.empty(32 * 128 * 2, device="cuda")
    struct = problem.struct(problem.empty_output(), workspace)
    for name, number in wrong.items():
        setattr(struct, name, number)
    invalid_value = 1
    assert library.codetr_group_norm(ctypes.byref(struct), None) == invalid_value
