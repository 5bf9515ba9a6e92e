"""Kinds of small problems that people bring to the forums of other solvers, each over sizes, scales and signs."""

import math

import pytest
import reported
import torch
from helpers import leaves_of
from torch.autograd.functional import jacobian

import qplayer_gpu as qp
from qplayer_gpu import Status

pytestmark = pytest.mark.usefixtures("backend")
D = torch.float64
INF = math.inf


def t(values):
    return torch.tensor(values, dtype=D)


def solved(status):
    return bool((status <= Status.SOLVED_CLOSEST_FEASIBLE).all())


@pytest.mark.parametrize("size", [1e7, 1e10, 1e15])
@pytest.mark.parametrize("n", [1, 4])
def test_a_strictly_convex_problem_is_bounded_however_large_its_cost(size, n):
    H = torch.diag(torch.logspace(0, 2, n, dtype=D))
    sol = qp.solve_qp(H, -size * torch.ones(n, dtype=D), settings=qp.Settings(eps_rel=1e-12))
    assert sol.status == Status.SOLVED
    torch.testing.assert_close(sol.x, size / H.diagonal(), rtol=1e-9, atol=0)


@pytest.mark.parametrize("curvature", [1e-6, 1e-9, 1e-11])
def test_a_direction_that_is_all_but_flat_is_curved(curvature):
    R = t([[0.6, -0.8], [0.8, 0.6]])
    sol = qp.solve_qp(R @ torch.diag(t([1.0, curvature])) @ R.T, R @ t([1.0, 1.0]), settings=qp.Settings(eps_rel=1e-9))
    assert sol.status == Status.SOLVED


@pytest.mark.parametrize("slope", [1.0, 1e-4, 1e-7])
def test_a_ray_is_a_ray_however_thin(slope):
    assert qp.solve_qp(None, t([1.0, -slope]), lb=0.0).status == Status.UNBOUNDED


@pytest.mark.parametrize("n", [8, 60])
def test_long_rows_whose_terms_cancel_leave_more_rounding(n):
    """min |M x + 1| for M of rank two with entries up to n^2: none of the sums can be exact to the tolerance."""
    M = torch.arange(n * n, dtype=D).reshape(n, n)
    sol = qp.solve_qp(M.T @ M, M.sum(0))
    assert sol.status == Status.SOLVED
    assert sol.info.iterations <= 10
    torch.testing.assert_close(M @ sol.x, -torch.ones(n, dtype=D), rtol=0, atol=1e-9)


EPS, RATIOS, VIOLATIONS = (1e-9, 1e-6), (1.0, 10.0, 0.1, 1e3), (0.3, 0.5, 0.9, 1.01, 1.5, 2.5, 10.0)


@pytest.mark.parametrize("eps", EPS)
@pytest.mark.parametrize("ratio", RATIOS)
def test_infeasible_by_about_a_tolerance(eps, ratio):
    """Two equalities that miss each other, and two inequalities, of other lengths."""
    for times in VIOLATIONS:
        miss = times * eps * (1 + ratio**2) / max(ratio, 1.0)
        rows, sides = t([[1.0, 1.0], [ratio, ratio]]), t([1.0, ratio + miss])
        pairs = ((rows, sides, {}), (None, None, {"C": rows * t([[1.0], [-1.0]]), "u": sides * t([1.0, -1.0])}))
        for A, b, more in pairs:
            H, g = torch.eye(2, dtype=D), t([-1.0, -2.0])
            sol = qp.solve_qp(H, g, A, b, **more, settings=qp.Settings(eps_abs=eps))
            assert solved(sol.status), times
            assert sol.info.iterations <= 60
            if sol.status == Status.SOLVED_CLOSEST_FEASIBLE:
                assert max(sol.s_eq.abs().sum(), sol.s_in.abs().sum()) > 0.1 * eps
            refused = qp.solve_qp(H, g, A, b, **more, settings=qp.Settings(eps_abs=eps, closest_feasible=False))
            assert refused.status in (Status.SOLVED, Status.INFEASIBLE)


@pytest.mark.parametrize("miss", [0.0, 1e-10, 1e-9, 1.5e-9, 3e-9, 1e-8])
def test_opposed_rows_that_miss_each_other_by_a_little_under_a_large_cost(miss):
    assert solved(qp.solve_qp(torch.eye(1, dtype=D), t([-100.0]), C=t([[1.0], [-1.0]]), u=t([0.0, -miss])).status)
    assert solved(qp.solve_qp(torch.eye(1, dtype=D), t([-100.0]), lb=t([miss]), C=t([[1.0]]), u=0.0).status)


def test_a_row_that_asks_for_a_little_more_than_many_bounds_allow():
    """Its multipliers are large, so that what is missing leaves a gap above its tolerance until the sides give way."""
    sol = qp.solve_qp(**reported.missed_bounds(60, 24, seed=1009))
    assert solved(sol.status)
    assert sol.info.iterations.max() <= 150


def test_transport_plans_with_marginals_in_float32():
    n, B = 4, 200
    A = torch.zeros(2 * n, n * n)
    for i in range(n):
        A[i, i * n : (i + 1) * n] = 1
        A[n + i, i::n] = 1
    marginals = torch.rand(2, B, n).softmax(-1)
    sol = qp.solve_qp(0.1 * torch.eye(n * n), torch.rand(B, n * n), A, torch.cat([*marginals], -1), lb=0.0)
    assert solved(sol.status)


@pytest.mark.parametrize("angle", [1e-4, 1e-5, 1e-6])
def test_rows_that_are_nearly_parallel(angle):
    H, g, rows = 2 * torch.eye(2, dtype=D), t([-2.0, -4.0]), t([[1.0, 1 + angle], [1.0, 1.0]])
    equal = qp.solve_qp(H, g, rows, t([2.0, 2.0]))
    bounded = qp.solve_qp(H, g, C=rows * t([[1.0], [-1.0]]), u=t([2.0, -2.0]))
    for sol in (equal, bounded):
        assert sol.status == Status.SOLVED
        torch.testing.assert_close(sol.x, t([2.0, 0.0]), rtol=0, atol=1e-3)  # eps_abs by the angle


@pytest.mark.parametrize("penalty", [1e4, 1e8, 1e10, 1e12])
def test_slacks_with_heavy_penalties(penalty):
    sol = qp.solve_qp(
        torch.diag(t([1.0, penalty])), t([-1.0, 0.0]), C=t([[1.0, 1.0]]), l=3.0, lb=t([-1.0, 0.0]), ub=t([1.0, INF])
    )
    assert sol.status == Status.SOLVED
    assert sol.info.iterations <= 100
    torch.testing.assert_close(sol.x, t([1.0, 2.0]), rtol=0, atol=1e-6)


@pytest.mark.parametrize("size", [0.0, 1e-14, 1e-12, 1e-10, 1e-9, 1e-6])
@pytest.mark.parametrize("side", [-0.5, 0.5])
def test_rows_that_are_nearly_zero(size, side):
    sol = qp.solve_qp(torch.eye(2, dtype=D), t([-1.0, 0.5]), C=t([[size, size]]), u=side, lb=-4.0, ub=4.0)
    assert solved(sol.status)
    torch.testing.assert_close(sol.s_in, t([max(0.0, -side)]), rtol=0, atol=1e-5)


@pytest.mark.parametrize("n", [50, 150])
def test_inconsistent_equalities_of_half_the_rank(n):
    M = torch.randn(n, n, dtype=D)
    A = torch.randn(2, n, n // 2, dtype=D) @ torch.randn(2, n // 2, n, dtype=D)
    H = M @ M.T / n + 0.01 * torch.eye(n, dtype=D)
    sol = qp.solve_qp(H, torch.randn(n, dtype=D), A, torch.randn(2, n, dtype=D))
    assert (sol.status == Status.SOLVED_CLOSEST_FEASIBLE).all()


def test_hard_bounds_of_an_infeasible_lp():
    A, b = torch.rand(12, 3, 6, dtype=D) + 0.1, torch.rand(12, 3, dtype=D)
    b[:, 0] = -1
    sol = qp.solve_qp(None, torch.rand(12, 6, dtype=D), A, b, lb=0.0, ub=1.0, w_box=INF)
    assert (sol.status == Status.SOLVED_CLOSEST_FEASIBLE).all()
    assert (sol.s_box == 0).all()


@pytest.mark.parametrize(("n", "rank"), [(3, 1), (12, 4), (12, 7), (48, 25)])
def test_gram_matrices_computed_in_float32_are_solved_as_they_are_meant(n, rank):
    J = torch.randn(50, n, rank)
    g = (J @ torch.randn(50, rank, 1)).squeeze(-1)
    for dtype in (torch.float32, D):
        assert solved(qp.solve_qp((J @ J.mT).to(dtype), g.to(dtype), lb=0.0).status)


def test_an_indefinite_H_is_not_solved():
    box = {"lb": -1.0, "ub": 1.0}
    for H, g, sides in (
        (torch.diag(t([1.0, -1.0])), t([0.0, 0.0]), box),
        (-torch.eye(1, dtype=D), t([0.0]), box),
        (torch.diag(t([1.0, -1e-3])), t([1.0, 1.0]), {}),
    ):
        sol = qp.solve_qp(H, g, **sides)
        assert sol.status in (Status.NUMERICAL_ERROR, Status.UNBOUNDED)
        with pytest.raises(qp.SolveError, match="H"):
            sol.check()


@pytest.mark.parametrize(("rows", "cost"), [(1e9, 1.0), (1.0, 1e9), (1e9, 1e9), (1e-3, 1e6)])
def test_tolerances_below_the_rounding_of_the_data(rows, cost):
    n, m = 6, 8
    M, C, g = torch.randn(20, n, n, dtype=D), torch.randn(20, m, n, dtype=D), torch.randn(20, n, dtype=D)
    u = torch.rand(20, m, dtype=D)
    sol = qp.solve_qp(cost * (M @ M.mT), cost * g, C=rows * C, u=rows * u)
    assert (sol.status == Status.SOLVED).all()
    torch.testing.assert_close(sol.x, qp.solve_qp(M @ M.mT, g, C=C, u=u).x, rtol=0, atol=1e-6)


def test_an_infeasible_problem_has_a_ray_for_multipliers():
    rows, u = t([[1.0, 2.0], [-1.0, -2.0], [3.0, 0.0]]), t([1.0, -3.0, 1.0])
    sol = qp.solve_qp(torch.eye(2, dtype=D), t([0.0, 0.0]), C=rows, u=u, settings=qp.Settings(closest_feasible=False))
    assert sol.status == Status.INFEASIBLE
    assert (sol.z >= 0).all()
    assert (rows.T @ sol.z).abs().max() <= 1e-6 * sol.z.max()
    assert sol.z @ u < -0.1 * sol.z.max()  # so that no x has C x <= u


def test_the_shift_follows_its_rows_alone_at_a_degenerate_vertex():
    """For equalities of one direction ``ds/db = A A^+ - I``, whatever is active besides."""

    def shift(b):
        return qp.solve_qp(None, t([-9.0, 1.0]), torch.ones(2, 2, dtype=D), b, lb=0.0, ub=t([1.5, 9.0])).s_eq

    torch.testing.assert_close(jacobian(shift, t([1.0, 2.0])), t([[-0.5, 0.5], [0.5, -0.5]]), rtol=0, atol=1e-6)


@pytest.mark.parametrize("bounds", [True, False], ids=["bounds", "rows"])
def test_a_row_with_a_multiplier_of_zero_does_not_count(bounds):
    """The optimum without rows is x = 2, where they begin."""
    H = torch.block_diag(t([[1.0, 0.5], [0.5, 1.0]]), t([[1.0, -0.5], [-0.5, 1.0]]))
    g = -torch.ones(4, dtype=D)
    rows = {"lb": 2.0} if bounds else {"C": -torch.eye(4, dtype=D), "u": -2.0}
    leaves = leaves_of({"H": H, "g": g} | rows)
    qp.solve_qp(**leaves).x.sum().backward()
    torch.testing.assert_close(leaves["g"].grad, t([0.0, 0.0, -2.0, -2.0]), rtol=0, atol=1e-6)


@pytest.mark.parametrize("side", [0.0, 0.3, 1.0, 1e3, 1e6, 1e9])
def test_sides_that_cross_by_a_rounding_error(side):
    lo = torch.nextafter(t([side]), t([INF]))
    H, g = torch.eye(1, dtype=D), t([-1.0])
    for sides in ({"lb": lo, "ub": side}, {"C": t([[1.0]]), "l": lo, "u": side}):
        sol = qp.solve_qp(H, g, **sides)
        assert sol.status == Status.SOLVED
        torch.testing.assert_close(sol.x, t([side]), rtol=1e-9, atol=2e-9)


@pytest.mark.parametrize("beside", [False, True], ids=["alone", "beside-a-shift"])
def test_sides_that_cross_are_a_shift(beside):
    """In float32 a rounding error is beyond the tolerance; the shift says which row it was."""
    hi = torch.tensor([0.3])
    lo = torch.nextafter(hi, torch.tensor([INF]))
    H, g, C = torch.eye(2), torch.tensor([-1.0, 1.0]), torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    rows = {"C": C, "l": torch.cat([lo, torch.full((2,), -INF)]), "u": torch.tensor([0.3, 0.0, -0.5])}
    if not beside:
        rows = {name: t[:1] for name, t in rows.items()}
    sol = qp.solve_qp(H, g, **rows)
    assert sol.status == Status.SOLVED_CLOSEST_FEASIBLE
    expected = torch.cat([(lo - hi) / 2, torch.tensor([0.25, 0.25])[: 2 * beside]])
    torch.testing.assert_close(sol.s_in, expected, rtol=1e-6, atol=0)
    found = qp.certificate(sol, H, g, **rows)
    for residual in (found.primal_residual, found.dual_residual, found.gap, found.shift_residual):
        assert residual <= 1e-7
    again = qp.solve_qp(H, g, **rows, warm_start=sol)
    assert again.info.iterations <= 1 + beside
    torch.testing.assert_close(again.s_in, sol.s_in)
    strict = qp.solve_qp(H, g, **rows, settings=qp.Settings(closest_feasible=False))
    assert strict.status == Status.INFEASIBLE


def test_hard_sides_that_cross_are_infeasible():
    box = {"lb": t([0.0, 1.0]), "ub": t([1.0, 0.5])}
    soft = qp.solve_qp(torch.eye(2, dtype=D), t([1.0, 1.0]), **box)
    assert soft.status == Status.SOLVED_CLOSEST_FEASIBLE
    torch.testing.assert_close(soft.s_box, t([0.0, 0.25]))
    assert qp.solve_qp(torch.eye(2, dtype=D), t([1.0, 1.0]), **box, w_box=INF).status == Status.INFEASIBLE


@pytest.mark.parametrize("miss", [1.0, 1e-3])
def test_hard_rows_that_exclude_each_other_have_a_ray_for_multipliers(miss):
    H, g, C, u = torch.eye(2, dtype=D), t([-1.0, -2.0]), t([[1.0, 1.0], [-2.0, -2.0]]), t([1.0, -2.0 - miss])
    sol = qp.solve_qp(H, g, C=C, u=u, w_in=INF)
    assert sol.status == Status.INFEASIBLE
    ray = sol.z / sol.z.abs().max()
    assert (ray >= 0).all()
    torch.testing.assert_close(C.mT @ ray, t([0.0, 0.0]), rtol=0, atol=1e-9)
    assert u @ ray < -0.4 * miss
