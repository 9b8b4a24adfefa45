"""Linear layers by cuBLASLt on a GPU against float64; "large" as in test_kernel_gpu.py."""

import ctypes
import threading

import pytest
import torch

from tests.plugin.linear_problems import (
    ACTIVATIONS,
    ALGORITHMS,
    DTYPES,
    WORKSPACE,
    exact,
    make_fp8_problem,
    make_problem,
)

pytestmark = pytest.mark.gpu

SIZES = {
    "odd_rows": (77, 192, 192),
    "one_row": (1, 192, 768),
    "narrow": (1001, 8, 16),
    "fc1": (2400, 768, 3072),
    "fc2": (2400, 3072, 768),
    "last_stage": (600, 6144, 1536),
    "large": (153600, 192, 768),
}


@pytest.fixture
def library(build_folder):
    # PyTorch has loaded a cuBLASLt by the time of its first product.
    (torch.ones(8, 8, device="cuda") @ torch.ones(8, 8, device="cuda")).sum().item()
    loaded = ctypes.CDLL(str(build_folder / "libcodetr_kernel_test.so"))
    loaded.codetr_prepare_linear.restype = ctypes.c_char_p
    return loaded


def run(library, problem, algorithm=0):
    output = problem.empty_output()
    # Bytes of 0xFF are NaN in every type.
    workspace = torch.full((WORKSPACE,), 0xFF, dtype=torch.uint8, device="cuda")
    struct = ctypes.byref(problem.struct(output, workspace, algorithm))
    assert library.codetr_prepare_linear(struct) is None
    stream = ctypes.c_void_p(torch.cuda.current_stream().cuda_stream)
    assert library.codetr_linear(struct, stream) == 0
    torch.cuda.current_stream().synchronize()
    return output


def assert_right(output, problem):
    expected = exact(problem)
    assert output.isfinite().all()
    # Rounding of the output, and of GELU's tanh by the GPU's own instruction.
    limit = torch.finfo(output.dtype).eps * expected.abs() + 1e-3
    assert ((output.double() - expected).abs() <= limit).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("adds", [False, True], ids=["alone", "residual"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("size", SIZES)
def test_agrees_with_float64(library, size, activation, adds, dtype):
    problem = make_problem(*SIZES[size], activation=activation, adds=adds, dtype=DTYPES[dtype])
    assert_right(run(library, problem), problem)


KINDS = {"alone": {}, "residual": {"adds": True}, "to_fp8": {"to_fp8": True}}


STEP = 32
"""Products that Hopper's tensor cores add to a sum at a time, in fp8."""


def assert_right_fp8(output, problem):
    """Each step cuts a sum, up to the largest on the way, to 14 digits; then the output's rounding.

    By how much is from what others measured of Hopper (arXiv 2412.19437, 3.3.2: "around 14 bits").
    """
    expected = exact(problem)
    steps = problem.x.shape[1] // STEP
    limit = 2e-3 + steps * 2.0**-13 * largest_sums(problem) + 1e-3 * expected.abs()
    if problem.inverse_scale is not None:  # rounding is by a sixteenth at most
        limit = limit * problem.inverse_scale + expected.abs() / 16
    assert output.float().isfinite().all()
    excess = (output.double() - expected).abs() / limit
    assert excess.max() <= 1


def largest_sums(problem):
    """(R, N): of what is added up step by step, the largest magnitude."""
    largest = torch.zeros(len(problem.x), len(problem.weight), device=problem.x.device)
    total = torch.zeros_like(largest)
    x, weight = problem.x.float() * problem.x_scale, problem.weight.float() * problem.weight_scale
    for columns, rows in zip(x.split(STEP, dim=1), weight.split(STEP, dim=1), strict=True):
        total += columns @ rows.T
        largest = torch.maximum(largest, total.abs())
    return largest


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("size", [size for size in SIZES if size != "narrow"])
def test_fp8_agrees_with_float64(library, size, activation, kind):
    problem = make_fp8_problem(*SIZES[size], activation=activation, **KINDS[kind])
    assert_right_fp8(run(library, problem), problem)


@pytest.mark.parametrize("algorithm", range(ALGORITHMS))
@pytest.mark.parametrize("kind", KINDS)
def test_every_fp8_algorithm_gives_the_same_bits_each_time(library, kind, algorithm):
    problem = make_fp8_problem(*SIZES["fc1"], activation="gelu", **KINDS[kind])
    first = run(library, problem, algorithm)
    assert_right_fp8(first, problem)
    again = (run(library, problem, algorithm) for _ in range(10))
    assert all(torch.equal(each.view(torch.uint8), first.view(torch.uint8)) for each in again)


@pytest.mark.parametrize("algorithm", [*range(ALGORITHMS), 1000])
@pytest.mark.parametrize("size", ["fc1", "fc2", "last_stage"])
def test_every_algorithm_is_right_and_gives_the_same_bits_each_time(library, size, algorithm):
    problem = make_problem(*SIZES[size], activation="gelu", adds=True)
    first = run(library, problem, algorithm)
    assert_right(first, problem)
    assert all(torch.equal(run(library, problem, algorithm), first) for _ in range(10))


def test_a_cuda_graph_captures_it(library):
    problem = make_problem(*SIZES["fc1"], activation="gelu", adds=True)
    workspace = torch.empty(WORKSPACE, dtype=torch.uint8, device="cuda")
    output = problem.empty_output()
    struct = ctypes.byref(problem.struct(output, workspace))
    assert library.codetr_prepare_linear(struct) is None
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        stream = ctypes.c_void_p(torch.cuda.current_stream().cuda_stream)
        assert library.codetr_linear(struct, stream) == 0
    problem.x.normal_()
    problem.residual.normal_()  # the replay has to see what the buffers hold by then
    graph.replay()
    torch.cuda.synchronize()
    assert torch.equal(output, run(library, problem))


def test_threads_with_streams_of_their_own(library):
    """Each with its own workspace; the algorithms are shared."""
    problems = [make_problem(rows, 768, 3072, activation="gelu") for rows in (600, 601, 602)]
    wanted = [run(library, problem) for problem in problems]
    torch.cuda.synchronize()
    wrong = []

    def work(index):
        with torch.cuda.stream(torch.cuda.Stream()):
            for _ in range(50):
                if not torch.equal(run(library, problems[index]), wanted[index]):
                    wrong.append(index)

    threads = [threading.Thread(target=work, args=(index,)) for index in range(len(problems))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def assert_refused(library, problem, wrong):
    """With fields of the struct replaced."""
    workspace = torch.empty(WORKSPACE, dtype=torch.uint8, device="cuda")
    struct = problem.struct(problem.empty_output(), workspace)
    for name, number in wrong.items():
        setattr(struct, name, number)
    invalid_value = 1
    assert library.codetr_linear(ctypes.byref(struct), None) == invalid_value


@pytest.mark.parametrize(
    "wrong",
    [
        {"inputs": 196},
        {"outputs": 4},
        {"rows": -1},
        {"algorithm": -1},
        {"type": 0},
        {"bias": 8},
        {"residual": 8},
        {"factors": 0},
        {"output_type": 3},
    ],
    ids=str,
)
def test_what_does_not_fit_is_refused(library, wrong):
    assert_refused(library, make_problem(8, 192, 192), wrong)


@pytest.mark.parametrize(
    "wrong",
    [
        {"inputs": 200},
        {"outputs": 8},
        {"type": 2},
        {"x_scale": None},
        {"weight_scale": None},
        {"inverse_scale": None},
        {"residual": 4096},
    ],
    ids=str,
)
def test_what_does_not_fit_fp8_is_refused(library, wrong):
    assert_refused(library, make_fp8_problem(8, 192, 192, to_fp8=True), wrong)
