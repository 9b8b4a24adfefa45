"""The kernels on a GPU against float64. Cases called "large" are too slow for compute-sanitizer."""

import ctypes
from dataclasses import replace

import pytest
import torch

from tests.plugin.problems import DTYPES, error_in_ulps, exact, make_problem

pytestmark = pytest.mark.gpu

SMALL = [(19, 23), (10, 12), (5, 6), (3, 3), (1, 1)]
SMALL_VALID = [
    [(19, 20), (10, 11), (5, 6), (3, 3), (1, 1)],
    [(7, 23), (4, 12), (2, 6), (1, 3), (1, 1)],
    [(1, 1), (1, 1), (1, 1), (1, 1), (0, 0)],
]
MEDIUM = [(97, 113), (49, 57), (25, 29), (13, 15), (7, 8)]  # odd sizes, full blocks and rests
MEDIUM_VALID = [[(97, 80), (49, 40), (25, 20), (13, 10), (7, 5)], MEDIUM]
LARGE = [(320, 480), (160, 240), (80, 120), (40, 60), (20, 30)]  # 1280x1920: 204,600 queries
CASES = {
    "encoder": {"sizes": SMALL},
    "encoder_batch_3": {"sizes": SMALL, "batch": 3, "valid": SMALL_VALID},
    "encoder_many": {"sizes": MEDIUM, "batch": 2, "valid": MEDIUM_VALID},
    "encoder_shared": {"sizes": SMALL, "batch": 3, "shared_reference": True},
    "decoder": {"sizes": SMALL, "queries": 900, "box": True},
    "decoder_batch_3": {
        **{"sizes": SMALL, "queries": 301, "box": True, "batch": 3},
        **{"valid": SMALL_VALID, "shared_reference": True},
    },
    "far_outside": {"sizes": SMALL, "spread": 1000.0},
    "two_heads": {"sizes": SMALL, "heads": 2, "channels": 64},
    "four_levels": {"sizes": SMALL[:4], "queries": 300, "box": True},
    "one_by_one": {"sizes": [(1, 1)] * 5, "queries": 37},
    "other_sizes": {
        **{"sizes": SMALL[:3], "batch": 2, "queries": 55},
        **{"heads": 6, "channels": 6 * 20, "points": 3},
    },
    "large": {"sizes": LARGE},
    "large_decoder": {"sizes": LARGE, "queries": 900, "box": True},
}


@pytest.fixture
def kernel(build_folder):
    """The launch function: takes a problem and an output, returns the CUDA error code."""
    library = ctypes.CDLL(str(build_folder / "libcodetr_kernel_test.so"))

    def launch(problem, output):
        stream = ctypes.c_void_p(torch.cuda.current_stream().cuda_stream)
        return library.codetr_ms_deform_attn(ctypes.byref(problem.struct(output)), stream)

    return launch


def run(kernel, problem):
    output = problem.empty_output()
    assert kernel(problem, output) == 0
    torch.cuda.synchronize()
    return output


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", CASES)
def test_agrees_with_float64(kernel, case, dtype):
    # Made on the host: compute-sanitizer sees the copy, but not what PyTorch's kernels write.
    problem = make_problem(**CASES[case]).to(DTYPES[dtype], "cuda")
    output, expected = run(kernel, problem), exact(problem)
    assert output.isfinite().all()
    if dtype == "fp32":
        assert (output - expected).abs().max() <= 1e-5
    else:
        assert error_in_ulps(output, expected) <= 1


@pytest.mark.parametrize("dtype", DTYPES)
def test_large_tensor_of_more_than_2_31_elements(kernel, dtype):
    batch = 2**31 // (204600 * 256) + 2
    problem = make_problem(LARGE, batch=batch, queries=9, box=True, device="cuda")
    problem = problem.to(DTYPES[dtype], "cuda")
    output = run(kernel, problem)
    last = {name: getattr(problem, name)[-1:] for name in ("value", "sampling", "reference")}
    expected = exact(replace(problem, **last))
    assert (output[-1:] - expected).abs().max() <= 4 * torch.finfo(output.dtype).eps + 1e-5


def test_runs_are_equal_bit_for_bit(kernel):
    problem = make_problem(**CASES["encoder_many"], device="cuda").to(torch.float16, "cuda")
    assert torch.equal(run(kernel, problem), run(kernel, problem))


@pytest.mark.parametrize("case", ["encoder_many", "decoder", "other_sizes"])
def test_a_cuda_graph_captures_it(kernel, case):
    problem = make_problem(**CASES[case], device="cuda").to(torch.float16, "cuda")
    output = problem.empty_output()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        assert kernel(problem, output) == 0
    problem.value.normal_()  # the replay has to see what the buffers hold by then
    graph.replay()
    torch.cuda.synchronize()
    assert torch.equal(output, run(kernel, problem))


@pytest.mark.parametrize("case", ["encoder", "four_levels"])
def test_levels_that_do_not_fit_read_nothing_outside(kernel, case):
    """What the host cannot check; compute-sanitizer sees whether it is true."""
    problem = make_problem(**CASES[case], device="cuda")
    problem.level_sizes[1] = torch.tensor([1 << 20, 1 << 20])
    output = problem.empty_output()
    assert kernel(problem, output) == 0
    torch.cuda.synchronize()


@pytest.mark.parametrize(
    "wrong",
    [{"heads": 7}, {"heads": 0}, {"points": 0}, {"reference_size": 3}, {"valid_batch": 2}],
    ids=str,
)
def test_dimensions_that_do_not_fit_are_refused(build_folder, wrong):
    library = ctypes.CDLL(str(build_folder / "libcodetr_kernel_test.so"))
    problem = make_problem(SMALL, device="cuda")
    struct = problem.struct(problem.empty_output())
    for name, number in wrong.items():
        setattr(struct, name, number)
    invalid_value = 1
    assert library.codetr_ms_deform_attn(ctypes.byref(struct), None) == invalid_value
