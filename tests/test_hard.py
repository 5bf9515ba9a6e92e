"""Problems that users have: published ones, ill-scaled, degenerate, LP-like, near to infeasible."""

import families as f
import hard as h
import numpy as np
import piqp
import pytest
import torch
from certificate import certify
from published import PROBLEMS

import qplayer_gpu as qp

HARD = {
    "ill-scaled-2": lambda: h.ill_scaled(32, 9, decades=2),
    "ill-scaled-4": lambda: h.ill_scaled(32, 17, decades=4),
    "ill-scaled-8": lambda: h.ill_scaled(32, 8, decades=8),
    "degenerate-5": lambda: h.degenerate(32, 5),
    "degenerate-16": lambda: h.degenerate(32, 16),
    "netlib-like-12": lambda: h.netlib_like(32, 12),
    "netlib-like-60": lambda: h.netlib_like(8, 60),
    "little-H-12": lambda: h.netlib_like(32, 12, little=0.1),
    "little-H-60": lambda: h.netlib_like(8, 60, little=0.1),
}
LARGE = {
    "netlib-like-300": lambda: h.netlib_like(2, 300),
    "little-H-300": lambda: h.netlib_like(2, 300, little=0.1),
    "degenerate-200": lambda: h.degenerate(2, 200),
    "ill-scaled-200": lambda: h.ill_scaled(2, 200, decades=6),
}


@pytest.mark.parametrize(("precision", "accuracy"), [("float64", 1e-6), ("mixed", 1e-5)])
@pytest.mark.parametrize("name", PROBLEMS)
def test_published_optimum(name, precision, accuracy, backend):
    args, constant, optimum = PROBLEMS[name]
    sol = qp.solve_qp(**args, settings=qp.Settings(precision=precision)).check()
    x = sol.x
    objective = (0.5 * x @ args["H"] @ x + args["g"] @ x + constant).item()
    assert abs(objective - optimum) <= accuracy * max(1, abs(optimum))


def solved_to_its_conditions(args, settings):
    sol = qp.solve_qp(**args, settings=settings)
    assert (sol.status == qp.Status.SOLVED).all()
    conditions = certify(args, sol)
    rounding = 1e-10  # entries of up to 1e4 times 1e4, summed in another order
    assert conditions.primal <= settings.eps_abs + rounding
    assert conditions.dual <= settings.eps_abs + rounding
    assert conditions.gap <= settings.eps_abs + rounding
    return sol


@pytest.mark.parametrize("precision", ["float64", "mixed"])
@pytest.mark.parametrize("family", HARD)
def test_hard_family(family, precision, backend):
    solved_to_its_conditions(HARD[family](), qp.Settings(precision=precision))


@pytest.mark.parametrize("make", [f.overdetermined, f.excluding_halfspaces], ids=["overdetermined", "excluding"])
@pytest.mark.parametrize("seed", range(3))
def test_rows_of_an_infeasible_problem_in_other_units(make, seed, backend):
    args = h.rescaled(make(16, 9, seed=seed), seed)
    sol = qp.solve_qp(**args).check()
    assert (sol.status == qp.Status.SOLVED_CLOSEST_FEASIBLE).all()
    residuals = qp.certificate(sol, **args)
    assert residuals.primal_residual.max() <= 1.1e-9
    assert residuals.dual_residual.max() <= 1.1e-9
    assert residuals.shift_residual.max() <= 1e-7


@pytest.mark.slow
@pytest.mark.parametrize("family", LARGE)
def test_large_hard_family(family):
    solved_to_its_conditions(LARGE[family](), qp.Settings())


@pytest.mark.parametrize("family", HARD)
def test_objective_agrees_with_an_outside_solver(family):
    """Where they differ, ours must be feasible and lower."""
    args = HARD[family]()
    sol = qp.solve_qp(**args).check()
    for i in range(4):
        one = {k: None if v is None else (v[i] if v.dim() == 2 + (k in "HAC") else v).numpy() for k, v in args.items()}
        n = one["g"].shape[0]
        H = np.zeros((n, n)) if one["H"] is None else one["H"]
        solver = piqp.DenseSolver()
        solver.settings.eps_abs = solver.settings.eps_rel = 1e-10
        sides = {k: one.get(k) for k in ("l", "u", "lb", "ub")}
        finite = np.isfinite(one["u"])  # piqp takes no free rows
        C, u = one["C"][finite], one["u"][finite]
        l = None if sides["l"] is None else sides["l"][finite]
        solver.setup(H, one["g"], one["A"], one["b"], C, l, u, sides["lb"], sides["ub"])
        assert solver.solve() == piqp.PIQP_SOLVED
        ours, theirs = (0.5 * x @ H @ x + one["g"] @ x for x in (sol.x[i].numpy(), solver.result.x))
        assert ours <= theirs + 1e-6 * (1 + abs(theirs))
        assert abs(ours - theirs) <= 1e-6 * (1 + abs(theirs))


SCALES = ["rows", "columns", "cost"]


def scaled(args, kind, exponent):
    """The same problems in other units, and how their x reads in them."""
    factor = 10.0**exponent
    n, out = args["g"].shape[-1], dict(args)
    if kind == "cost":
        return {**args, "H": args["H"] * factor, "g": args["g"] * factor}, torch.ones(n).double()
    if kind == "rows":
        powers = torch.logspace(0, exponent, args["C"].shape[-2]).double()
        return {**args, "C": args["C"] * powers[:, None], "u": args["u"] * powers}, torch.ones(n).double()
    powers = torch.logspace(0, exponent, n).double()
    out["H"] = args["H"] * powers[:, None] * powers
    out |= {k: args[k] * powers for k in ("g", "A", "C") if k in args}
    return out, powers


@pytest.mark.parametrize("exponent", [-4, 4])
@pytest.mark.parametrize("kind", SCALES)
def test_units_do_not_change_the_answer(kind, exponent, backend):
    args = f.feasible(8, 10)
    expected = qp.solve_qp(**args).check()
    other, powers = scaled(args, kind, exponent)
    sol = qp.solve_qp(**other).check()
    # eps_abs = 1e-9 in units up to 1e4 times smaller, through H^-1 with eigenvalues down to 1e-2
    torch.testing.assert_close(sol.x * powers, expected.x, rtol=0, atol=1e-3 if exponent < 0 else 1e-6)


@pytest.mark.parametrize("exponent", [-2, 2])
def test_the_shift_is_least_norm_in_the_units_of_the_user(exponent, backend):
    args = f.overdetermined(6, 6)
    powers = torch.logspace(0, exponent, args["b"].shape[1]).double()
    other = {**args, "A": args["A"] * powers[:, None], "b": args["b"] * powers}
    for settings in (qp.Settings(), qp.Settings(equilibrate=False)):
        sol = qp.solve_qp(**other, settings=settings).check()
        assert certify(other, sol).shift <= 1e-7
    # weights undo the scale of the rows
    same = qp.solve_qp(**other, w_eq=powers**-2).check()
    torch.testing.assert_close(same.s_eq / powers, qp.solve_qp(**args).s_eq, rtol=0, atol=1e-6)


@pytest.mark.parametrize("distance", [1e-3, 1e-5, 1e-7, 1e-8])
@pytest.mark.parametrize("apart", [True, False], ids=["infeasible", "feasible"])
def test_close_to_the_border_of_feasibility(distance, apart, backend):
    """Two parallel half-spaces, apart or overlapping by a little."""
    args = {k: v for k, v in f.feasible(4, 6).items() if k in ("H", "g")}
    c = torch.randn(4, 1, 6).double()
    gap = distance if apart else -distance
    args |= {"C": torch.cat([c, -c], 1), "u": torch.tensor([0.0, -gap]).double()}
    sol = qp.solve_qp(**args).check()
    expected = qp.Status.SOLVED_CLOSEST_FEASIBLE if apart else qp.Status.SOLVED
    assert (sol.status == expected).all()
    torch.testing.assert_close(sol.s_in, torch.full((4, 2), gap / 2 if apart else 0.0).double(), rtol=0, atol=1e-9)


def test_certificate_recomputes_the_residuals():
    for args in (f.feasible(5, 9, two_sided=True, bounds=True), f.overdetermined(5, 6), f.sudoku_lp(4)):
        sol = qp.solve_qp(**args).check()
        independent, ours = certify(args, sol), qp.certificate(sol, **args)
        assert abs(ours.primal_residual.max().item() - independent.primal) <= 1e-12
        assert abs(ours.dual_residual.max().item() - independent.dual) <= 1e-12
        assert abs(ours.shift_residual.max().item() - independent.shift) <= 1e-12
        assert (ours.gap <= 1.1e-9 * (1 + 1e3)).all()
        torch.testing.assert_close(ours.dual_residual, sol.info.dual_residual, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("rows", "cost"), [(1e9, 1.0), (1.0, 1e9), (1e9, 1e9)])
def test_certificate_says_what_rounding_may_leave(rows, cost):
    args = f.feasible(20, 8)
    args |= {name: rows * args[name] for name in "AbCu"} | {name: cost * args[name] for name in "Hg"}
    sol = qp.solve_qp(**args).check()
    found, eps = qp.certificate(sol, **args), qp.Settings().eps_abs
    residuals = torch.stack([found.primal_residual, found.dual_residual])
    rounding = torch.stack([found.primal_rounding, found.dual_rounding])
    assert (residuals > eps).any()  # the tolerance is below rounding
    assert (residuals <= eps + rounding).all()
    objective = (sol.x * (0.5 * f.times(args["H"], sol.x) + args["g"])).sum(-1).abs()
    assert (found.gap <= eps * (1 + objective) + found.gap_rounding).all()
    one = f.feasible(20, 8)
    usual = qp.certificate(qp.solve_qp(**one), **one)
    assert (usual.primal_rounding <= 1e-13).all()
    assert (usual.dual_rounding <= 1e-13).all()


def test_certificate_sees_a_wrong_answer():
    args = f.feasible(3, 6)
    sol = qp.solve_qp(**args)
    sol.x[1, 0] += 1e-3
    wrong = qp.certificate(sol, **args)
    assert (wrong.dual_residual > 1e-6).tolist() == [False, True, False]


def test_an_early_stop_returns_the_best_iterate(backend):
    args = f.feasible(20, 16, two_sided=True)
    worst = []
    for steps in range(1, 12):
        sol = qp.solve_qp(**args, settings=qp.Settings(max_iter=steps))
        info, objective = sol.info, (sol.x * (0.5 * f.times(args["H"], sol.x) + args["g"])).sum(-1).abs()
        worst.append(torch.stack([info.primal_residual, info.dual_residual, info.gap / (1 + objective)]).amax(0))
    assert (torch.stack(worst).diff(dim=0) <= 1e-9).all()  # more steps never give a worse answer


def test_an_early_stop_returns_honest_residuals(backend):
    args = f.feasible(5, 16, two_sided=True)
    sol = qp.solve_qp(**args, settings=qp.Settings(max_iter=6))
    assert (sol.status == qp.Status.MAX_ITERATIONS).any()
    recomputed = qp.certificate(sol, **args)
    torch.testing.assert_close(sol.info.primal_residual, recomputed.primal_residual, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(sol.info.dual_residual, recomputed.dual_residual, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(sol.info.gap, recomputed.gap, rtol=1e-9, atol=1e-12)
