"""The CUDA kernels of the norm, run on the CPU by norm_emulation.cpp, against float64."""

import ctypes

import pytest
import torch

from codetr.group_norm import group_norm
from tests.plugin.norm_problems import DTYPES, exact, make_problem
from tests.plugin.problems import error_in_ulps

CASES = {
    "neck": {"size": (5, 7)},
    "batch": {"size": (3, 5), "batch": 2},
    "one_token": {"size": (1, 1)},
    "one_row": {"size": (1, 37), "channels": 64, "groups": 8},
    "groups_of_4": {"size": (3, 7), "channels": 128, "batch": 2},
    "groups_of_24": {"size": (6, 7), "channels": 96, "groups": 4},  # no whole warps of vectors
    "one_group": {"size": (4, 5), "channels": 40, "groups": 1},
    # In float32 the mean of the squares would have no digit of the variance.
    "large_mean": {"size": (7, 9), "channels": 64, "groups": 8, "mean": 1000.0},
}
# Threads of a block, tokens of a chunk, blocks of the second kernel.
SHAPES = {"few_blocks": (64, 200, 1), "many_blocks": (96, 12, 3)}


@pytest.fixture(scope="module")
def emulate(build_folder):
    """Runs both kernels; the workspace is as large as the plugin says and full of NaN at first."""
    library = ctypes.CDLL(str(build_folder / "libcodetr_emulation.so"))

    def run(problem, shape):
        output = problem.empty_output()
        (batch, height, width, _), (_, chunk_tokens, _) = problem.x.shape, shape
        chunks = -(-height * width // chunk_tokens)
        workspace = torch.full((batch * problem.groups * chunks * 2 + 8,), torch.nan)
        library.emulate_norm(ctypes.byref(problem.struct(output, workspace)), *shape)
        assert workspace[:-8].isfinite().all()  # all of it is used
        assert workspace[-8:].isnan().all()  # and nothing behind it
        return output

    return run


@pytest.mark.parametrize(("shape", "dtype"), [("few_blocks", "bf16"), ("many_blocks", "fp16")])
@pytest.mark.parametrize("case", CASES)
def test_agrees_with_float64(emulate, case, shape, dtype):
    problem = make_problem(**CASES[case]).to(DTYPES[dtype])
    output = emulate(problem, SHAPES[shape])
    assert error_in_ulps(output, exact(problem)) <= 0.55  # NaN: not written


def test_a_large_map_of_nearly_equal_values(emulate):
    """Many chunks and tiles join into a variance a millionth of the squared mean."""
    problem = make_problem((41, 47), channels=8, groups=1, mean=2000.0).to(torch.float16)
    output = emulate(problem, (32, 160, 3))
    assert error_in_ulps(output, exact(problem)) <= 0.6


def test_equal_values_give_the_bias(emulate):
    problem = make_problem((5, 7), channels=64, groups=8).to(torch.float16)
    problem.x.fill_(3.1)
    output = emulate(problem, SHAPES["many_blocks"])
    assert torch.equal(output, problem.bias.half().expand_as(output))


@pytest.mark.parametrize("case", CASES)
def test_reference_agrees_with_the_model(case):
    problem = make_problem(**CASES[case])
    model = group_norm(problem.x, problem.weight, problem.bias, problem.groups)
    limit = 1e-5 if "mean" not in CASES[case] else 1e-3  # inputs of float32 are rounded to 6e-5
    assert (model.double() - exact(problem)).abs().max() < limit
