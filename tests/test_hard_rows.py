"""Rows of infinite weight are never shifted."""

import math

import families as f
import numpy as np
import piqp
import pytest
import torch
from certificate import certify
from test_gradients import check

import qplayer_gpu as qp

pytestmark = pytest.mark.usefixtures("backend")
HARD_BOX = qp.Settings(w_box=math.inf)


def demand(B, n, seed=0):
    """Rows that ask for more than the box holds: C x >= l with C > 0, 0 <= x <= 1."""
    normal, uniform = f._random(seed)
    C = 0.1 + uniform(B, 3, n)
    args = {"H": f._hessian(normal, B, n), "g": normal(B, n), "C": C}
    return args | {"l": C.sum(-1) + 0.2 + uniform(B, 3), "lb": torch.zeros(n).double(), "ub": torch.ones(n).double()}


def budget(B, n, seed=0):
    """Hard budgets A x = b and x >= 0 against soft demands; x keeps some freedom."""
    normal, uniform = f._random(seed)
    A = torch.zeros(B, 1, n).double()
    A[..., : n // 2] = 0.5 + uniform(B, 1, n // 2)
    C = torch.zeros(B, 2, n).double()
    C[..., : n // 2] = A[..., : n // 2] * torch.tensor([[1.0], [2.0]]).double()
    args = {"H": f._hessian(normal, B, n), "g": normal(B, n), "A": A, "b": torch.ones(B, 1).double(), "C": C}
    return args | {"l": 3 + uniform(B, 2)}


def test_the_box_holds():
    args = demand(6, 5)
    sol = qp.solve_qp(**args, settings=HARD_BOX).check()
    assert (sol.status == qp.Status.SOLVED_CLOSEST_FEASIBLE).all()
    assert (sol.s_box == 0).all()
    assert (sol.x <= 1 + 1e-9).all()
    torch.testing.assert_close(sol.x, torch.ones(6, 5).double(), rtol=0, atol=1e-8)  # the most that the box gives
    conditions = certify(args, sol)
    assert max(conditions.primal, conditions.dual, conditions.gap) <= 1.1e-9


@pytest.mark.parametrize("seed", range(4))
def test_shift_is_that_of_an_outside_solver(seed):
    """min |t|^2 over (x, t) subject to l <= C x - t and the bounds, as a QP of its own."""
    args = f.feasible(1, 6, seed, bounds=True)
    args["C"] = torch.cat([args["C"], -args["C"][:, :3]], 1)
    args["u"] = torch.cat([args["u"], -args["u"][:, :3] - 2.0], 1)  # contradicts the first three
    sol = qp.solve_qp(**args, settings=qp.Settings(w_box=math.inf, w_eq=math.inf)).check()
    A, b, C, u, lb, ub = (args[k][0].numpy() for k in ("A", "b", "C", "u", "lb", "ub"))
    (m, n), k = C.shape, len(b)
    solver = piqp.DenseSolver()
    solver.settings.eps_abs = solver.settings.eps_rel = 1e-11
    P = np.diag([0.0] * n + [1.0] * m)
    wide = np.full(m, np.inf)
    rows = np.hstack([C, -np.eye(m)]), None, u
    box = np.concatenate([lb, -wide]), np.concatenate([ub, wide])
    solver.setup(P, np.zeros(n + m), np.hstack([A, np.zeros((k, m))]), b, *rows[:1], rows[1], rows[2], *box)
    assert solver.solve() == piqp.PIQP_SOLVED
    np.testing.assert_allclose(sol.s_in[0].numpy(), solver.result.x[n:], rtol=0, atol=1e-6)
    assert (sol.s_eq == 0).all()
    assert (sol.s_box == 0).all()


def test_hard_rows_that_exclude_each_other_are_infeasible():
    args = f.excluding_halfspaces(3, 4)
    sol = qp.solve_qp(**args, settings=qp.Settings(w_in=math.inf))
    assert (sol.status == qp.Status.INFEASIBLE).all()


@pytest.mark.parametrize(
    ("args", "settings"),
    [
        (demand(3, 4), HARD_BOX),
        (budget(3, 6), qp.Settings(w_eq=math.inf)),
        (budget(3, 6), qp.Settings(w_eq=math.inf, w_in=[1.0, 3.0])),
    ],
    ids=["demand", "budget", "weighted-budget"],
)
def test_gradients(args, settings):
    frozen = {"A", "C"} if "A" in args else set()  # their pattern is what makes the rows contradict each other
    settings = qp.Settings(eps_abs=1e-11, **{k: getattr(settings, k) for k in ("w_eq", "w_in", "w_box")})
    check(args, qp.Status.SOLVED_CLOSEST_FEASIBLE, ("x", "s_eq", "s_in", "s_box"), settings, frozen)
