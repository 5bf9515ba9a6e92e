"""Random problems of every shape, scale, rank, bound and dtype are solved to their optimality conditions."""

import math
from collections import Counter

import fuzz
import torch
from certificate import certify
from hypothesis import given, settings
from hypothesis import strategies as st

import qplayer_gpu as qp

sizes = st.integers(0, 6)


@st.composite
def problems(draw):
    """A batch whose rows may contradict each other; H has any rank, but x is bounded."""
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    B, n, n_eq, n_in = draw(st.integers(1, 3)), draw(st.integers(1, 7)), draw(sizes), draw(sizes)
    rank, scale = draw(st.integers(0, n)), 10.0 ** draw(st.integers(-2, 2))

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    M = normal(B, n, rank)
    args = {"H": M @ M.mT if draw(st.booleans()) and rank else None, "g": scale * normal(B, n)}
    args |= {"lb": -scale - torch.rand(n, generator=generator).double(), "ub": torch.full((n,), scale).double()}
    if n_eq:
        shape = () if draw(st.booleans()) else (B,)
        args |= {"A": normal(*shape, n_eq, n), "b": 0.3 * scale * normal(B, n_eq)}
    if n_in:
        args |= {"C": normal(B, n_in, n), "u": scale * normal(B, n_in)}
        if draw(st.booleans()):
            args["l"] = args["u"] - scale * torch.rand(B, n_in, generator=generator).double()
            args["l"][:, 0] = -math.inf
    return args


@settings(max_examples=150)
@given(problems(), st.sampled_from(["float64", "mixed"]), st.sampled_from(["auto", "torch"]))
def test_every_problem_is_solved_to_its_conditions(args, precision, backend):
    sol = qp.solve_qp(**args, settings=qp.Settings(precision=precision), backend=backend).check()
    conditions = certify(args, sol)
    rounding = 1e-10
    assert conditions.primal <= 1e-9 + rounding
    assert conditions.dual <= 1e-9 + rounding
    assert conditions.shift <= 1e-9
    shifted = torch.cat([sol.s_eq, sol.s_in, sol.s_box], -1) != 0
    assert torch.equal(shifted.any(-1), sol.status == qp.Status.SOLVED_CLOSEST_FEASIBLE)


@settings(max_examples=60)
@given(problems())
def test_gradients_are_finite(args):
    leaves = {k: None if v is None else v.clone().requires_grad_() for k, v in args.items()}
    sol = qp.solve_qp(**leaves)
    sum(t.sum() for t in (sol.x, sol.y, sol.z, sol.z_box, sol.s_eq, sol.s_in, sol.s_box)).backward()
    for k, leaf in leaves.items():
        assert leaf is None or leaf.grad.isfinite().all(), k


@settings(max_examples=60)
@given(problems(), st.sampled_from(["auto", "torch"]))
def test_float32_has_the_status_of_float64(args, backend):
    single = {k: None if v is None else v.float() for k, v in args.items()}
    double = {k: None if v is None else v.double() for k, v in single.items()}
    first, second = (qp.solve_qp(**p, backend=backend) for p in (single, double))
    assert torch.equal(first.status, second.status)
    assert first.x.dtype == torch.float32


@settings(max_examples=40)
@given(problems(), st.integers(0, 2))
def test_order_of_the_batch_does_not_matter(args, seed):
    B = len(args["g"])
    order = torch.randperm(B, generator=torch.Generator().manual_seed(seed))
    moved = {k: v[order] if v is not None and v.dim() == 2 + (k in "HAC") else v for k, v in args.items()}
    first, second = qp.solve_qp(**args), qp.solve_qp(**moved)
    assert torch.equal(first.status[order], second.status)
    torch.testing.assert_close(first.s_box[order], second.s_box, rtol=1e-6, atol=1e-7)


def test_calls_at_random_end_as_they_should():
    """A few of those of fuzz.py, which was left to run for longer."""
    ends = Counter(fuzz.one(seed) for seed in range(200))
    assert set(ends) == {"answer", "BackendError", "ProblemError", "ProblemTypeError", "SettingsError"}
