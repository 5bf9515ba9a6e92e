"""Every family is solved, with the right status, to its optimality conditions, in about the expected steps."""

import families as f
import pytest
import torch
from certificate import certify

import qplayer_gpu as qp

pytestmark = pytest.mark.usefixtures("backend")
EPS = 1e-9

# family: arguments, status, Newton steps that a plain prototype of the method took (None: not measured)
FAMILIES = {
    "feasible-10": (lambda: f.feasible(256, 10), qp.Status.SOLVED, 11.6),
    "feasible-32": (lambda: f.feasible(64, 32), qp.Status.SOLVED, 19.4),
    "feasible-64": (lambda: f.feasible(16, 64), qp.Status.SOLVED, 25.2),
    "feasible-odd-two-sided-bounds": (lambda: f.feasible(32, 17, two_sided=True, bounds=True), qp.Status.SOLVED, None),
    "feasible-1": (lambda: f.feasible(16, 1), qp.Status.SOLVED, None),
    "lp-20": (lambda: f.lp(32, 20), qp.Status.SOLVED, None),
    "lp-33": (lambda: f.lp(16, 33), qp.Status.SOLVED, None),
    "overdetermined-32": (lambda: f.overdetermined(64, 32), qp.Status.SOLVED_CLOSEST_FEASIBLE, 27.8),
    "overdetermined-64": (lambda: f.overdetermined(16, 64), qp.Status.SOLVED_CLOSEST_FEASIBLE, 36.7),
    "sudoku-lp": (lambda: f.sudoku_lp(50), qp.Status.SOLVED_CLOSEST_FEASIBLE, 71.8),
    "opposite-halfspaces-32": (lambda: f.opposite_halfspaces(32, 32, 60), qp.Status.SOLVED_CLOSEST_FEASIBLE, 25.6),
    "excluding-halfspaces": (lambda: f.excluding_halfspaces(32, 7), qp.Status.SOLVED_CLOSEST_FEASIBLE, None),
    "positive-equalities": (lambda: f.positive_equalities(32, 9, 5), qp.Status.SOLVED_CLOSEST_FEASIBLE, None),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_family(family, backend):
    make, status, steps = FAMILIES[family]
    args = make()
    sol = qp.solve_qp(**args, backend=backend, settings=qp.Settings(eps_abs=EPS))
    assert (sol.status == status).all()
    sol.check()
    conditions = certify(args, sol)
    rounding = 1e-11  # the certificate sums in another order
    assert conditions.primal <= EPS + rounding
    assert conditions.dual <= EPS + rounding
    assert conditions.gap <= EPS + rounding
    assert conditions.sign <= EPS
    assert conditions.shift <= 1e-7
    assert sol.info.primal_residual.max() <= EPS
    if steps is not None:
        assert sol.info.iterations.double().mean() <= 1.2 * steps


@pytest.mark.parametrize("family", ["feasible-odd-two-sided-bounds", "lp-20", "overdetermined-32", "sudoku-lp"])
def test_float32(family, backend):
    make, status, _ = FAMILIES[family]
    args = {k: v if v is None else v.float() for k, v in make().items()}
    sol = qp.solve_qp(**args, backend=backend)
    exact = qp.solve_qp(**{k: v if v is None else v.double() for k, v in args.items()}, backend=backend)
    assert (sol.status == status).all()
    assert sol.x.dtype == torch.float32
    # rounding the answer is all that float32 costs
    torch.testing.assert_close(sol.x.double(), exact.x, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(sol.z.double(), exact.z, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("equilibrate", [True, False])
def test_relative_tolerance_follows_the_scale(equilibrate):
    args = {k: v * 1e4 if k in ("g", "b", "u", "lb", "ub") else v for k, v in f.feasible(8, 12, bounds=True).items()}
    loose = qp.Settings(eps_abs=1e-12, eps_rel=1e-4, equilibrate=equilibrate)
    sol = qp.solve_qp(**args, settings=loose).check()
    tight = qp.solve_qp(**args, settings=qp.Settings(equilibrate=equilibrate)).check()
    rows = torch.cat([f.times(args["A"], sol.x), f.times(args["C"], sol.x), sol.x], -1).abs().amax(-1)
    assert (sol.info.primal_residual <= 1e-12 + 1e-4 * rows).all()
    assert (sol.info.primal_residual > 1e-9).any()
    assert sol.info.iterations.sum() < tight.info.iterations.sum()


def test_warm_start_from_the_answer_takes_no_step():
    args = f.feasible(8, 12, two_sided=True)
    first = qp.solve_qp(**args)
    again = qp.solve_qp(**args, warm_start=first)
    assert (again.info.iterations == 0).all()
    torch.testing.assert_close(again.x, first.x, rtol=0, atol=0)


@pytest.mark.parametrize("family", ["feasible-10", "sudoku-lp", "overdetermined-32"])
def test_warm_start_saves_steps(family):
    args = FAMILIES[family][0]()
    first = qp.solve_qp(**args)
    near = {**args, "g": args["g"] * (1 + 1e-3)}
    cold, warm = qp.solve_qp(**near), qp.solve_qp(**near, warm_start=first)
    assert (warm.status == cold.status).all()
    assert warm.info.iterations.double().mean() < 0.8 * cold.info.iterations.double().mean()
    torch.testing.assert_close(warm.x, cold.x, rtol=1e-5, atol=1e-6)


def test_warm_start_across_feasibility():
    feasible = {"H": torch.eye(2), "g": torch.zeros(2), "C": torch.eye(2).repeat(2, 1), "l": torch.zeros(4)}
    feasible = {k: v.double() for k, v in feasible.items()} | {"u": torch.tensor([1.0, 1, 1, 1]).double()}
    infeasible = feasible | {"l": torch.tensor([2.0, 0, 0, 0]).double(), "u": torch.tensor([3.0, 1, 1, 1]).double()}
    at = [qp.solve_qp(**p) for p in (feasible, infeasible)]
    assert at[0].status == qp.Status.SOLVED
    assert at[1].status == qp.Status.SOLVED_CLOSEST_FEASIBLE
    for problem, cold, other in ((feasible, at[0], at[1]), (infeasible, at[1], at[0])):
        warm = qp.solve_qp(**problem, warm_start=other)
        assert warm.status == cold.status
        torch.testing.assert_close(warm.x, cold.x, rtol=0, atol=1e-8)
        torch.testing.assert_close(warm.s_in, cold.s_in, rtol=0, atol=1e-8)


def test_settings_limit_the_steps():
    sol = qp.solve_qp(**f.feasible(4, 12), settings=qp.Settings(max_iter=3))
    assert (sol.status == qp.Status.MAX_ITERATIONS).all()
    assert (sol.info.iterations == 3).all()
    assert (sol.info.primal_residual > 1e-9).all()


def test_closest_feasible_can_be_refused():
    args = f.overdetermined(4, 6)
    sol = qp.solve_qp(**args, settings=qp.Settings(closest_feasible=False))
    assert (sol.status == qp.Status.INFEASIBLE).all()
    with pytest.raises(qp.SolveError, match="4 INFEASIBLE"):
        sol.check()
    assert (
        qp.solve_qp(**f.feasible(4, 6), settings=qp.Settings(closest_feasible=False)).status == qp.Status.SOLVED
    ).all()


def test_multipliers_of_shifted_bounds_have_their_signs(backend):
    """One of these needs multipliers ten times as large as those that it was solved with."""
    args = f.sudoku_lp(20)
    sol = qp.solve_qp(**args).check()
    assert (sol.z_box <= 0).all()
    assert certify(args, sol).gap <= 1.1e-9
