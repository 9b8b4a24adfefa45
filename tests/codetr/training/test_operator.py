"""The gradient of deformable attention, and the Triton kernels in Triton's interpreter."""

import pytest
import torch

import codetr.training.operator  # noqa: F401 (registers the gradient)
from codetr.deform_attn import locate, ms_deform_attn, sample
from tests.plugin.problems import exact, make_problem
from tests.processes import run_python

SIZES = [(5, 7), (3, 4), (2, 2)]
VALID = [[(4, 5), (3, 3), (2, 1)], SIZES]
OPTIONS = {
    "points": {"shared_reference": True},
    "padded points": {"valid": VALID},
    "boxes": {"box": True, "queries": 6},
    "padded boxes": {"box": True, "queries": 6, "valid": VALID},
}


def make(**options):
    return make_problem(SIZES, batch=2, heads=2, channels=8, points=2, spread=1.0, **options)


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_gradient_equals_finite_differences(options):
    problem = make(**options)
    inputs = [
        tensor.double().requires_grad_()
        for tensor in (problem.value, problem.sampling, problem.reference)
    ]
    rest = problem.level_sizes, problem.valid_sizes, problem.heads, problem.points
    # A direction of every input at once; the step is far from the samples' kinks.
    assert torch.autograd.gradcheck(
        lambda *tensors: ms_deform_attn(*tensors, *rest), inputs, fast_mode=True, eps=1e-7
    )


def test_gradient_equals_that_of_the_float64_reference():
    problem = make(**OPTIONS["padded boxes"])
    gradient = torch.randn(2, 6, 8, dtype=torch.float64)
    value, sampling = (t.requires_grad_() for t in (problem.value, problem.sampling))
    expected = torch.autograd.grad(exact(problem), (value, sampling), gradient)
    output = ms_deform_attn(
        *(value, sampling, problem.reference, problem.level_sizes, problem.valid_sizes),
        *(problem.heads, problem.points),
    )
    found = torch.autograd.grad(output, (value, sampling), gradient.float())
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


def kernels_agree(device):
    """The Triton kernels against autograd through the plain body, in float32."""
    from codetr.training import kernels

    for options in OPTIONS.values():
        problem = make(**options).to(torch.float32, device)
        sizes = problem.level_sizes, problem.valid_sizes
        located = locate(
            *(problem.sampling, problem.reference, len(SIZES), problem.valid_sizes),
            *(problem.heads, problem.points),
        )
        inputs = [tensor.detach().requires_grad_() for tensor in (problem.value, *located)]
        output = sample(*inputs, *sizes)
        gradient = torch.randn_like(output)
        expected = torch.autograd.grad(output, inputs, gradient)
        inputs = [tensor.detach() for tensor in inputs]
        torch.testing.assert_close(kernels.forward(*inputs, *sizes), output.detach())
        found = kernels.backward(gradient, *inputs, *sizes)
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


def test_triton_kernels_in_the_interpreter():
    code = f"import {__name__} as tests; tests.kernels_agree('cpu')"
    done = run_python(f"import os; os.environ['TRITON_INTERPRET'] = '1'\n{code}")
    assert done.returncode == 0, done.stderr


@pytest.mark.gpu
def test_triton_kernels_on_the_gpu():
    kernels_agree("cuda")


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_operator_on_the_gpu_equals_the_one_on_the_cpu(dtype):
    def run(device):
        problem = make(**OPTIONS["padded boxes"]).to(dtype, device)
        value, sampling = (t.requires_grad_() for t in (problem.value, problem.sampling))
        output = ms_deform_attn(
            *(value, sampling, problem.reference, problem.level_sizes, problem.valid_sizes),
            *(problem.heads, problem.points),
        )
        gradients = torch.autograd.grad(output.float().square().sum(), (value, sampling))
        return [tensor.float().cpu() for tensor in (output, *gradients)]

    torch.testing.assert_close(run("cuda"), run("cpu"), atol=0.05, rtol=0.05)
