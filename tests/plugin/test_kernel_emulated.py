"""The CUDA kernels of sampling, run on the CPU by sampling_emulation.cpp, against float64."""

import ctypes

import pytest
import torch

from codetr.deform_attn import ms_deform_attn
from tests.plugin.problems import DTYPES, error_in_ulps, exact, make_problem

SIZES = [(9, 5), (5, 3), (3, 2), (2, 2), (1, 1)]
VALID = [[(9, 4), (5, 2), (3, 2), (2, 1), (1, 1)], [(6, 5), (4, 3), (2, 2), (1, 2), (1, 1)]]


def small(sizes=SIZES, **options):
    """With the fewest heads that make two blocks of the vectorised kernel."""
    return make_problem(sizes, **{"heads": 4, "channels": 128} | options)


CASES = {
    "encoder": make_problem(SIZES),
    "encoder_batch": small(batch=2, valid=VALID),
    "decoder": small(queries=21, box=True),
    "decoder_batch": small(queries=7, box=True, batch=2, valid=VALID),
    "shared_reference": small(batch=2, valid=VALID, shared_reference=True),
    "far_outside": small(spread=100.0),
    "one_column": small([(20, 1), (1, 20), (1, 1), (3, 1), (1, 2)]),
    # A coordinate of 4000 cells in one float32 would be off by up to 1e-4 cells.
    "wide": small([(2, 4000), (1, 9), (1, 1), (3, 1), (1, 2)], queries=33),
    "empty_valid_region": small(valid=[[(0, 0), (5, 3), (3, 0), (0, 2), (1, 1)]]),
}


def run(build_folder, problem, *, vectorised):
    library = ctypes.CDLL(str(build_folder / "libcodetr_emulation.so"))
    output = problem.empty_output()
    library.emulate(ctypes.byref(problem.struct(output)), ctypes.c_bool(vectorised))
    return output


@pytest.mark.parametrize("kernel", ["vectorised", "any"])
@pytest.mark.parametrize("case", CASES)
def test_fp32(build_folder, case, kernel):
    output = run(build_folder, CASES[case], vectorised=kernel == "vectorised")
    assert (output - exact(CASES[case])).abs().max() < 1e-5


@pytest.mark.parametrize("kernel", ["vectorised", "any"])
@pytest.mark.parametrize("dtype", ["fp16", "bf16"])
def test_half(build_folder, dtype, kernel):
    problem = CASES["encoder_batch"].to(DTYPES[dtype])
    output = run(build_folder, problem, vectorised=kernel == "vectorised")
    assert error_in_ulps(output, exact(problem)) <= 0.51


@pytest.mark.parametrize(
    "shape", [(1, 8, 1), (3, 5, 2), (6, 18, 3), (2, 64, 8)], ids=lambda s: "x".join(map(str, s))
)
def test_other_heads_channels_points(build_folder, shape):
    heads, channels, points = shape
    problem = make_problem(
        SIZES[:3], batch=2, queries=11, heads=heads, channels=heads * channels, points=points
    )
    output = run(build_folder, problem, vectorised=False)
    assert (output - exact(problem)).abs().max() < 1e-5


@pytest.mark.parametrize("case", ["encoder_batch", "decoder_batch"])
def test_reference_agrees_with_the_model(case):
    problem = CASES[case]
    tensors = (problem.value, problem.sampling, problem.reference)
    sizes = (problem.level_sizes, problem.valid_sizes)
    model = ms_deform_attn(*tensors, *sizes, problem.heads, problem.points)
    assert torch.allclose(model.double(), exact(problem), atol=1e-5)


@pytest.mark.parametrize("kernel", ["vectorised", "any"])
def test_levels_that_do_not_fit_count_as_zeros(build_folder, kernel):
    """What the host cannot check must not make the GPU read outside its tensors."""
    problem = small(queries=5)
    problem.level_sizes[1] = torch.tensor([1 << 20, 1 << 20])
    output = run(build_folder, problem, vectorised=kernel == "vectorised")
    assert output.isfinite().all()


@pytest.mark.parametrize("kernel", ["vectorised", "any"])
def test_offsets_that_are_no_numbers_weigh_nothing(build_folder, kernel):
    problem = small(queries=5)
    expected = exact(problem)
    problem.sampling[:, 2, :100] = torch.nan
    problem.sampling[:, 3, :100] = torch.inf
    output = run(build_folder, problem, vectorised=kernel == "vectorised")
    assert output.isfinite().all()
    kept = [0, 1, 4]
    assert (output - expected)[:, kept].abs().max() < 1e-5


@pytest.mark.parametrize("kernel", ["vectorised", "any"])
def test_levels_of_which_the_sum_is_no_int64_are_empty(build_folder, kernel):
    """The third starts at 2^63 - 2^33 + 2, its end would be a negative number."""
    problem = small(queries=7)
    problem.level_sizes[:3] = 2**31 - 1
    output = run(build_folder, problem, vectorised=kernel == "vectorised")
    assert (output == 0).all()
