"""The kernels of layer normalisation on a GPU against float64; "large" as in test_kernel_gpu.py."""

import ctypes
from dataclasses import replace

import pytest
import torch

from tests.plugin.layer_norm_problems import (
    exact,
    make_map,
    make_problem,
    make_quantised,
    make_sum,
)
from tests.plugin.norm_problems import DTYPES
from tests.plugin.problems import FLOAT8, assert_rounded_to_fp8, error_in_ulps
from tests.plugin.test_layer_norm_kernel_emulated import MAPS, SHAPES

pytestmark = pytest.mark.gpu

# Rows and channels of Swin-L at 1280x1920, its encoder and decoder.
MODEL = {
    "stage_0": (153600, 192),
    "stage_1": (38400, 384),
    "stage_2": (9600, 768),
    "stage_3": (2400, 1536),
    "merging_2": (2400, 3072),
    "encoder": (51150, 256),
    "queries": (900, 256),
}


@pytest.fixture
def kernel(build_folder):
    """The launch function: takes a C struct, returns the CUDA error code."""
    library = ctypes.CDLL(str(build_folder / "libcodetr_kernel_test.so"))

    def launch(struct):
        stream = ctypes.c_void_p(torch.cuda.current_stream().cuda_stream)
        return library.codetr_layer_norm(ctypes.byref(struct), stream)

    return launch


def run(kernel, problem, dtype=None):
    output = torch.full(problem.shape, torch.nan, device="cuda").to(dtype or problem.x.dtype)
    assert kernel(problem.struct(output)) == 0
    torch.cuda.synchronize()
    return output


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [*SHAPES, *MODEL.values()], ids=str)
def test_agrees_with_float64(kernel, shape, dtype):
    problem = make_problem(*shape).to(DTYPES[dtype], "cuda")
    assert error_in_ulps(run(kernel, problem), exact(problem)) <= 0.6


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [*SHAPES[:6], MODEL["encoder"]], ids=str)
def test_a_sum_is_normalised(kernel, shape, dtype):
    problem = make_sum(*shape).to(DTYPES[dtype], "cuda")
    assert error_in_ulps(run(kernel, problem), exact(problem)) <= 0.6


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "shape", [*MAPS, (1, 320, 480, 768), (1, 160, 240, 1536), (2, 80, 120, 3072)], ids=str
)
def test_neighbours_are_merged(kernel, shape, dtype):
    problem = make_map(*shape).to(DTYPES[dtype], "cuda")
    assert error_in_ulps(run(kernel, problem), exact(problem)) <= 0.6


@pytest.mark.parametrize("shape", [*SHAPES, *MODEL.values()], ids=str)
def test_outputs_in_fp8_are_rounded_to_the_nearest(kernel, shape):
    problem = make_problem(*shape).to(torch.float16, "cuda")
    problem.weight.mul_(200)  # some are above the largest value of fp8
    assert_rounded_to_fp8(run(kernel, problem, FLOAT8), exact(problem))


@pytest.mark.parametrize("shape", [*SHAPES, *MODEL.values()], ids=str)
def test_an_output_in_fp8_beside_the_other(kernel, shape):
    problem = make_quantised(*shape).to(torch.float16, "cuda")
    output = torch.full(problem.shape, torch.nan, dtype=torch.float16, device="cuda")
    quantised = output.to(FLOAT8)
    assert kernel(problem.struct(output, quantised)) == 0
    torch.cuda.synchronize()
    assert torch.equal(output, run(kernel, replace(problem, inverse_scale=None)))
    assert_rounded_to_fp8(quantised, exact(problem) * problem.inverse_scale)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_large_mean_drowns_no_spread(kernel, dtype):
    problem = make_problem(*MODEL["stage_1"], mean=1000.0).to(DTYPES[dtype], "cuda")
    assert error_in_ulps(run(kernel, problem), exact(problem)) <= 0.6


def test_what_is_not_finite_stays_in_its_row(kernel):
    problem = make_problem(*MODEL["encoder"]).to(torch.float16, "cuda")
    clean = run(kernel, problem)
    problem.x[4711, 100] = torch.nan
    output = run(kernel, problem)
    assert output[4711].isnan().all()
    output[4711] = clean[4711]
    assert torch.equal(output, clean)


@pytest.mark.parametrize("dtype", DTYPES)
def test_large_tensor_of_more_than_2_31_elements(kernel, dtype):
    rows = 2**31 // 192 + 1000
    problem = make_problem(1000, 192, device="cuda").to(DTYPES[dtype], "cuda")
    wanted = exact(problem)
    x = torch.zeros(rows, 192, dtype=DTYPES[dtype], device="cuda")
    x[-1000:] = problem.x
    large = type(problem)(x=x, weight=problem.weight, bias=problem.bias)
    assert error_in_ulps(run(kernel, large)[-1000:], wanted) <= 0.6


def test_runs_are_equal_bit_for_bit(kernel):
    problem = make_problem(*MODEL["stage_2"]).to(torch.float16, "cuda")
    assert torch.equal(run(kernel, problem), run(kernel, problem))


def test_a_cuda_graph_captures_it(kernel):
    problem = make_problem(*MODEL["queries"]).to(torch.float16, "cuda")
    output = torch.full_like(problem.x, torch.nan)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        assert kernel(problem.struct(output)) == 0
    problem.x.normal_()  # the replay has to see what the buffers hold by then
    graph.replay()
    torch.cuda.synchronize()
    assert torch.equal(output, run(kernel, problem))


@pytest.mark.parametrize(
    "wrong",
    [
        *({"channels": 260}, {"channels": 4104}, {"channels": 0}, {"rows": -1}),
        *({"type": 0}, {"output_type": 2}, {"bias": None}, {"x": 8}),
        *({"merged_width": 5}, {"merged_width": -1}, {"quantised": 4096}),
    ],
    ids=str,
)
def test_what_has_no_kernel_is_refused(kernel, wrong):
    problem = make_problem(12, 256).to(torch.float16, "cuda")
    struct = problem.struct(torch.full_like(problem.x, torch.nan))
    for name, number in wrong.items():
        setattr(struct, name, number)
    invalid_value = 1
    assert kernel(struct) == invalid_value


def test_no_rows_are_nothing_to_do(kernel):
    problem = make_problem(12, 256).to(torch.float16, "cuda")
    struct = problem.struct(torch.full_like(problem.x, torch.nan))
    struct.rows = 0
    assert kernel(struct) == 0
