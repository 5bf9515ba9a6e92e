"""Answers against solvers that are not ours."""

import families as f
import numpy as np
import piqp
import proxsuite
import pytest
import torch

import qplayer_gpu as qp

AGREEMENT = 1e-6


def _numpy(args, i):
    """Problem i as numpy arrays, bounds as inequality rows."""
    one = {k: None if v is None else (v[i] if v.dim() == 2 + (k in "HAC") else v).numpy() for k, v in args.items()}
    n = one["g"].shape[0]
    C, l, u = [], [], []
    for rows, lower, upper in ((one.get("C"), one.get("l"), one.get("u")), (np.eye(n), one.get("lb"), one.get("ub"))):
        if rows is not None and not (lower is None and upper is None):
            C.append(rows)
            l.append(np.full(len(rows), -np.inf) if lower is None else lower)
            u.append(np.full(len(rows), np.inf) if upper is None else upper)
    H = np.zeros((n, n)) if one["H"] is None else one["H"]
    return H, one["g"], one.get("A"), one.get("b"), np.concatenate(C), np.concatenate(l), np.concatenate(u)


def _piqp(H, g, A, b, C, l, u):
    solver = piqp.DenseSolver()
    solver.settings.eps_abs = solver.settings.eps_rel = 1e-12
    solver.settings.eps_duality_gap_abs = solver.settings.eps_duality_gap_rel = 1e-12
    solver.setup(H, g, A, b, C, l, u)
    assert solver.solve() == piqp.PIQP_SOLVED
    return solver.result.x


def _proxqp(H, g, A, b, C, l, u):
    result = proxsuite.proxqp.dense.solve(H, g, A, b, C, l, u, eps_abs=1e-11, eps_rel=0.0, max_iter=10000)
    assert result.info.status == proxsuite.proxqp.PROXQP_SOLVED
    return result.x


@pytest.mark.parametrize("outside", [_piqp, _proxqp], ids=["piqp", "proxqp"])
@pytest.mark.parametrize("two_sided", [False, True], ids=["one-sided", "two-sided"])
@pytest.mark.parametrize("n", [4, 13])
def test_feasible_solutions_agree(n, two_sided, outside):
    args = f.feasible(4, n, two_sided=two_sided, bounds=two_sided)
    sol = qp.solve_qp(**args).check()
    for i in range(4):
        np.testing.assert_allclose(sol.x[i].numpy(), outside(*_numpy(args, i)), rtol=0, atol=AGREEMENT)


def test_lp_objectives_agree():
    args = f.lp(4, 20)
    sol = qp.solve_qp(**args).check()
    for i in range(4):
        problem = _numpy(args, i)
        np.testing.assert_allclose(sol.x[i].numpy() @ problem[1], _piqp(*problem) @ problem[1], rtol=0, atol=AGREEMENT)


@pytest.mark.parametrize(
    "args",
    [
        f.overdetermined(3, 8),
        f.positive_equalities(3, 6, 4),
        f.excluding_halfspaces(3, 5),
        f.opposite_halfspaces(3, 5, 7),
        f.shared(f.sudoku_lp(1)),
    ],
    ids=["overdetermined", "positive-equalities", "excluding", "opposite", "sudoku"],
)
def test_shift_is_that_of_an_outside_least_squares_solve(args):
    """min |t|^2 over (x, t) subject to lo <= G x - t <= hi, as a QP of its own."""
    sol = qp.solve_qp(**args).check()
    for i in range(len(sol.x)):
        _, _, A, b, C, l, u = _numpy({"A": None, "b": None, **args}, i)
        if A is not None:
            C, l, u = np.concatenate([A, C]), np.concatenate([b, l]), np.concatenate([b, u])
        m, n = C.shape
        x_and_t = _piqp(np.diag([0.0] * n + [1.0] * m), np.zeros(n + m), None, None, np.hstack([C, -np.eye(m)]), l, u)
        shift = torch.cat([sol.s_eq[i], sol.s_in[i], sol.s_box[i]])[: len(sol.s_eq[i]) + len(sol.s_in[i]) + n].numpy()
        shift = shift[:m] if m < len(shift) else shift
        np.testing.assert_allclose(shift, x_and_t[n:], rtol=0, atol=AGREEMENT)


def test_shift_of_equalities_is_the_residual_of_lstsq():
    args = {k: v for k, v in f.overdetermined(4, 7).items() if k not in ("C", "u")}
    sol = qp.solve_qp(**args).check()
    for i in range(4):
        A, b = args["A"][i].numpy(), args["b"][i].numpy()
        residual = A @ np.linalg.lstsq(A, b, rcond=None)[0] - b
        np.testing.assert_allclose(sol.s_eq[i].numpy(), residual, rtol=0, atol=1e-9)


def test_shifted_problem_is_solved_by_an_outside_solver():
    """With the shift given, the problem is an ordinary QP."""
    args = f.excluding_halfspaces(4, 6, extra=9)
    sol = qp.solve_qp(**args).check()
    for i in range(4):
        H, g, A, b, C, l, u = _numpy(args, i)
        slack = 1e-9  # the outside solver wants an interior
        x = _piqp(H, g, A, b, C, l, u + sol.s_in[i].numpy() + slack)
        objective = [0.5 * v @ H @ v + g @ v for v in (x, sol.x[i].numpy())]
        np.testing.assert_allclose(objective[0], objective[1], rtol=1e-6, atol=1e-6)
