"""Rows of infinite weight are never shifted."""

import math

import families as f
import numpy as np
import piqp
import pytest
import torch
from certificate import certify
from hard import budget, demand, walled
from helpers import ALL, EXACT, check

import qplayer_gpu as qp

pytestmark = pytest.mark.usefixtures("backend")
HARD_BOX = {"w_box": math.inf}


def test_the_box_holds():
    args = demand(6, 5)
    sol = qp.solve_qp(**args, **HARD_BOX).check()
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
    sol = qp.solve_qp(**args, w_box=math.inf, w_eq=math.inf).check()
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


def test_walls_that_give_way_beside_hard_limits():
    """Many soft rows of very different sizes: hard rows must outweigh them, and are equalities in the end."""
    args, eps = walled(64, 10), 1e-7
    sol = qp.solve_qp(**args, settings=qp.Settings(eps_abs=eps)).check()
    assert (sol.status == qp.Status.SOLVED_CLOSEST_FEASIBLE).sum() > 40
    assert sol.info.iterations.double().mean() <= 50
    found = qp.certificate(sol, **args)
    assert found.primal_residual.max() <= 1.1 * eps
    assert (found.dual_residual - found.dual_rounding).max() <= 1.1 * eps
    assert (found.shift_residual <= 1e-7 * (args["w_in"] * sol.s_in).abs().amax(-1)).all()


def test_hard_rows_that_exclude_each_other_are_infeasible():
    args = f.excluding_halfspaces(3, 4)
    sol = qp.solve_qp(**args, w_in=math.inf)
    assert (sol.status == qp.Status.INFEASIBLE).all()


@pytest.mark.parametrize(
    ("args", "weights", "frozen"),  # the pattern of frozen matrices is what makes the rows contradict each other
    [
        (demand(3, 4), HARD_BOX, ()),
        (budget(3, 6), {"w_eq": math.inf}, ("A", "C")),
        (budget(3, 6), {"w_eq": torch.full((1,), math.inf).double(), "w_in": 2.0}, ("A", "C")),
        (f.positive_equalities(3, 6, 4, H=True), {"w_eq": 0.5 + torch.rand(3, 4).double(), **HARD_BOX}, ()),
    ],
    ids=["demand", "budget", "weighted-budget", "weighted-equalities"],
)
def test_gradients(args, weights, frozen):
    check(args | weights, qp.Status.SOLVED_CLOSEST_FEASIBLE, ALL, EXACT, frozen)
