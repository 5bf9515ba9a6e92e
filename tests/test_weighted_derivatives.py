"""Forward mode and second derivatives where the shifts have weights, and where rows must not shift."""

import math

import families as f
import pytest
import torch
from hard import budget, demand
from helpers import CASES, EXACT
from torch.autograd import gradcheck, gradgradcheck
from torch.func import grad, jvp, vjp

import qplayer_gpu as qp


def free_half(B, n, seed=0):
    """Half-spaces that exclude each other in the first half of x, and hard equalities that the other half satisfies."""
    return f.excluding_halfspaces(B, n, 1, seed) | {k: f.feasible(B, 2 * n, seed)[k] for k in ("H", "g", "A", "b")}


def widened(values):
    """Rows C of half the width of x, with zeros for the other half."""
    C = values.get("C")
    return values if C is None else values | {"C": torch.nn.functional.pad(C, (0, values["g"].shape[-1] - C.shape[-1]))}


def case(name):
    return {k: v[:2] if v.dim() == 2 + (k in "HAC") else v for k, v in CASES[name][0].items() if v is not None}


def weights(values):
    return torch.tensor(values).double()


SHIFTS = ("x", "s_eq", "s_in", "s_box")
INF = math.inf
# arguments, weights, outputs, and the arguments whose pattern makes the rows contradict each other
PROBLEMS = {
    "feasible": (case("feasible"), {"w_eq": 2.0, "w_in": INF}, ("x", "y", "z", "z_box"), ()),
    "overdetermined": (
        case("overdetermined"),
        {"w_eq": weights([0.2, 1, 3, 0.5, 2]), "w_in": 2.0},
        ("x", "s_eq", "s_in"),
        (),
    ),
    "only-equalities": (case("only-equalities"), {"w_eq": weights([0.2, 1, 3, 0.5, 2])}, ("x", "y", "s_eq"), ()),
    "positive-qp": (case("positive-qp"), {"w_eq": 0.3, "w_box": weights([1, 2, 3, 1, 2, 3])}, SHIFTS, ()),
    "excluding": (case("excluding"), {"w_in": weights([0.1, 1, 3, 1, 0.5, 2, 1, 1, 3, 0.7])}, SHIFTS, ()),
    "hard-box": (demand(2, 4), {"w_box": INF}, SHIFTS, ()),
    "hard-positive": (case("positive-qp"), {"w_eq": weights([1, 2, 3, 0.5]), "w_box": INF}, SHIFTS, ()),
    "hard-inequalities": (case("overdetermined"), {"w_in": INF}, SHIFTS, ()),
    "hard-budget": (budget(2, 6), {"w_eq": INF, "w_in": weights([1, 3])}, SHIFTS, ("A", "C")),
    "hard-and-free": (free_half(2, 3), {"w_eq": INF, "w_in": weights([1, 2, 0.5, 1, 3])}, SHIFTS, ()),
}


@pytest.fixture(params=PROBLEMS)
def name(request):
    return request.param


@pytest.fixture(params=["auto", pytest.param("torch", marks=pytest.mark.slow)])
def problem(name, request):
    """The outputs as a function of the tensors among the arguments, and these."""
    args, given, outputs, frozen = PROBLEMS[name]
    args = args | given
    names = [k for k, v in args.items() if isinstance(v, torch.Tensor) and k not in frozen]

    def call(*values):
        given = widened(args | dict(zip(names, values, strict=True)))
        sol = qp.solve_qp(**given, settings=EXACT, backend=request.param)
        assert (sol.status == (name != "feasible")).all()  # SOLVED, or SOLVED_CLOSEST_FEASIBLE
        return tuple(t for k in outputs if (t := getattr(sol, k)).numel())

    return call, tuple(args[k] for k in names)


def test_forward_mode(problem):
    call, values = problem
    leaves = tuple(v.clone().requires_grad_() for v in values)
    # a hard row weighs 1e6 in the linear system, and the differences are good to 1e-5
    assert gradcheck(call, leaves, atol=1e-4, rtol=1e-4, check_forward_ad=True, fast_mode=True)


def test_forward_mode_is_the_transpose_of_reverse_mode(problem):
    call, values = problem
    tangents = tuple(torch.randn_like(v) for v in values)
    primal, moved = jvp(call, values, tangents)
    cotangents = tuple(torch.randn_like(t) for t in primal)
    pulled = vjp(call, *values)[1](cotangents)
    left = sum((a * b).sum() for a, b in zip(moved, cotangents, strict=True))
    terms = [a * b for a, b in zip(pulled, tangents, strict=True)]
    # a hard row weighs 1e6 in the linear system
    assert abs(left - sum(t.sum() for t in terms)) <= 1e-5 * sum(t.abs().sum() for t in terms)


def test_second_derivatives(problem):
    call, values = problem
    leaves = tuple(v.clone().requires_grad_() for v in values)
    assert gradgradcheck(call, leaves, atol=1e-4, rtol=1e-4, fast_mode=True)


def test_forward_over_reverse_is_reverse_over_reverse(problem):
    call, values = problem

    def gradient(*values):
        return grad(lambda *v: sum(t.pow(3).sum() for t in call(*v)), tuple(range(len(values))))(*values)

    direction = tuple(torch.randn_like(v) for v in values)
    _, forward = jvp(gradient, values, direction)
    reverse = vjp(gradient, *values)[1](direction)  # the second derivatives are symmetric
    size = max(b.abs().max().item() for b in reverse)  # those of H and g are zero where W determines x
    for a, b in zip(forward, reverse, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-5 * size)  # as above
