"""Second derivatives, forward mode and the transforms of torch.func."""

import families as f
import pytest
import torch
from test_gradients import ALL, CASES, EXACT, one_matrix
from torch.autograd import forward_ad, gradcheck, gradgradcheck
from torch.func import functional_call, grad, hessian, jacfwd, jacrev, jvp, vjp, vmap

import qplayer_gpu as qp

FLOATS = (*ALL, "x")


def small(case):
    """The problems of a case, two of them: arguments without None, outputs with a derivative."""
    args, _, outputs = CASES[case]
    return {k: v[:2] if v.dim() == 2 + (k in "HAC") else v for k, v in args.items() if v is not None}, outputs


def function_of(args, outputs):
    """The outputs as a function of the arguments, in their order; H enters by its symmetric part."""

    def call(*values):
        sol = qp.solve_qp(**{"H": None, **dict(zip(args, values, strict=True))}, settings=EXACT)
        return tuple(getattr(sol, k) for k in outputs)

    return call, tuple(args.values())


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("shared", [False, True], ids=["batched", "shared"])
def test_forward_mode_is_the_transpose_of_reverse_mode(case, shared):
    args, outputs = small(case)
    call, values = function_of(one_matrix(args) if shared else args, outputs)
    tangents = tuple(torch.randn_like(v) for v in values)
    primal, moved = jvp(call, values, tangents)
    cotangents = tuple(torch.randn_like(t) for t in primal)
    _, pull = vjp(call, *values)
    left = sum((a * b).sum() for a, b in zip(moved, cotangents, strict=True))
    pulled = pull(cotangents)
    right = sum((a * b).sum() for a, b in zip(pulled, tangents, strict=True))
    size = sum((a * b).abs().sum() for a, b in zip(pulled, tangents, strict=True))
    assert abs(left - right) <= 1e-8 * size


@pytest.mark.parametrize("case", CASES)
def test_second_derivatives(case):
    args, outputs = small(case)
    call, values = function_of(args, outputs)
    leaves = tuple(v.clone().requires_grad_() for v in values)
    assert gradgradcheck(call, leaves, atol=1e-4, rtol=1e-4, fast_mode=True)


@pytest.mark.parametrize("case", ["feasible", "only-equalities", "positive-qp"])
def test_second_derivatives_of_shared_parameters(case):
    args, outputs = small(case)
    call, values = function_of(one_matrix(args), outputs)
    leaves = tuple(v.clone().requires_grad_() for v in values)
    assert gradgradcheck(call, leaves, atol=1e-4, rtol=1e-4, fast_mode=True)
