"""The CUDA kernels of layer normalisation, run on the CPU, against float64."""

import ctypes
from dataclasses import replace

import pytest
import torch

from codetr.swin import PatchMerging
from tests.plugin.layer_norm_problems import (
    exact,
    make_map,
    make_problem,
    make_quantised,
    make_sum,
)
from tests.plugin.norm_problems import DTYPES
from tests.plugin.problems import FLOAT8, assert_rounded_to_fp8, error_in_ulps

# Each kernel by the most channels that it takes, and with some lanes that have less to do or
# nothing; rows are no multiple of those of a block.
FULL = (192, 256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096)
SHAPES = [
    *((17, channels) for channels in FULL[:4]),
    *((5, channels) for channels in FULL[4:]),
    *((1, 8), (33, 96), (3, 32), (2, 200), (9, 264), (3, 392), (2, 2056)),
    *((5, 776), (2, 1528), (1, 1600), (2, 4088)),
]


def rows_of_nan(problem, dtype):
    """One more than the problem has."""
    rows, channels = problem.shape
    return torch.full((rows + 1, channels), torch.nan).to(dtype)


@pytest.fixture(scope="module")
def emulate(build_folder):
    """Runs the kernel; what lies behind the output has to stay as it is."""
    library = ctypes.CDLL(str(build_folder / "libcodetr_emulation.so"))

    def run(problem, dtype=None):
        room = rows_of_nan(problem, dtype or problem.x.dtype)
        quantised = rows_of_nan(problem, FLOAT8) if problem.inverse_scale is not None else None
        library.emulate_layer_norm(ctypes.byref(problem.struct(room, quantised)))
        rooms = [each for each in (room, quantised) if each is not None]
        assert all(each[-1].float().isnan().all() for each in rooms)
        outputs = [each[:-1] for each in rooms]
        return outputs[0] if quantised is None else outputs

    return run


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_agrees_with_float64(emulate, shape, dtype):
    problem = make_problem(*shape).to(DTYPES[dtype])
    assert error_in_ulps(emulate(problem), exact(problem)) <= 0.55  # NaN: not written


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(17, 192), (9, 256), (5, 768), (3, 392)], ids=str)
def test_a_sum_is_normalised(emulate, shape, dtype):
    problem = make_sum(*shape).to(DTYPES[dtype])
    assert error_in_ulps(emulate(problem), exact(problem)) <= 0.55


# Batch, height and width of the map; channels of the merged tokens.
MAPS = [(1, 2, 2, 32), (2, 4, 6, 96), (1, 6, 10, 768), (3, 2, 4, 1536), (1, 4, 2, 3072)]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", MAPS, ids=str)
def test_neighbours_are_merged(emulate, shape, dtype):
    problem = make_map(*shape).to(DTYPES[dtype])
    assert error_in_ulps(emulate(problem), exact(problem)) <= 0.55


def test_merging_is_that_of_the_model():
    problem = make_map(2, 4, 6, 96)
    merging = PatchMerging(24)
    merging.norm.load_state_dict({"weight": problem.weight, "bias": problem.bias})
    merging.reduction = torch.nn.Identity()
    with torch.no_grad():
        wanted = merging(problem.x).flatten(0, 2)
    torch.testing.assert_close(exact(problem).float(), wanted)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_outputs_in_fp8_are_rounded_to_the_nearest(emulate, shape):
    problem = make_problem(*shape).to(torch.float16)
    problem.weight.mul_(200)  # some are above the largest value of fp8
    assert_rounded_to_fp8(emulate(problem, FLOAT8), exact(problem))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_an_output_in_fp8_beside_the_other(emulate, shape):
    problem = make_quantised(*shape).to(torch.float16)
    output, quantised = emulate(problem)
    assert torch.equal(output, emulate(replace(problem, inverse_scale=None)))
    assert_rounded_to_fp8(quantised, exact(problem) * problem.inverse_scale)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("channels", [192, 768, 3072])
def test_a_large_mean_drowns_no_spread(emulate, channels, dtype):
    """In float32 the mean of the squares would have next to no digit of the variance."""
    problem = make_problem(7, channels, mean=1000.0).to(DTYPES[dtype])
    assert error_in_ulps(emulate(problem), exact(problem)) <= 0.6


@pytest.mark.parametrize("value", [0.0, 3.1, -1000.0, 65504.0])
@pytest.mark.parametrize("channels", [192, 256, 776])
def test_equal_values_give_the_bias(emulate, channels, value):
    """A mean that is off by its last bit is no bias any more: the deviation is as small."""
    problem = make_problem(5, channels).to(torch.float16)
    problem.x.fill_(value)
    output = emulate(problem)
    assert torch.equal(output, problem.bias.half().expand_as(output))


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("channels", [192, 384, 1536])
def test_what_is_not_finite_stays_in_its_row(emulate, channels, value):
    """Rows of one warp are neighbours."""
    problem = make_problem(9, channels).to(torch.float16)
    clean = emulate(problem)
    problem.x[4, channels // 3] = value
    output = emulate(problem)
    assert output[4].isnan().all()
    others = torch.arange(9) != 4
    assert torch.equal(output[others], clean[others])
