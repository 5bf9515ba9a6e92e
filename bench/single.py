"""Problems one at a time, as this library and its peers take them: their x, and what they say of it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

import qplayer_gpu as qp

ASKED = 1e-9
SOLVED, INFEASIBLE, UNBOUNDED, FAILED = "solved", "infeasible", "unbounded", "failed"
Arguments = dict[str, torch.Tensor | None]
Problem = dict[str, np.ndarray]
Found = tuple[np.ndarray, str]  # x, and what the solver says, empty where it gave up


def problems(arguments: Arguments, batch: int) -> list[Problem]:
    """Each with all arrays: H, g, A, b, C, l, u, lb, ub, and the weights w of the rows A, C, x."""
    n = arguments["g"].shape[-1]
    given = {k: v.numpy() for k, v in arguments.items() if v is not None}
    rows = {k: given[k].shape[-2] if k in given else 0 for k in "AC"}
    sides = {"b": (rows["A"], 0.0), "l": (rows["C"], -np.inf), "u": (rows["C"], np.inf)}
    sides |= {"lb": (n, -np.inf), "ub": (n, np.inf), "w_eq": (rows["A"], 1.0)}
    absent = {"H": np.zeros((n, n)), "A": np.zeros((0, n)), "C": np.zeros((0, n))}
    absent |= {k: np.full(count, value) for k, (count, value) in sides.items()}
    whole = {k: np.broadcast_to(v, (batch, *v.shape[v.ndim - 1 - (k in "HAC") :])) for k, v in (absent | given).items()}
    return [{k: np.array(v[i]) for k, v in whole.items()} for i in range(batch)]


def ours(batch: list[Problem], arguments: Arguments) -> list[Found]:
    """This library, or whichever version of it is imported."""
    sol = qp.solve_qp(**arguments, settings=qp.Settings(eps_abs=ASKED), backend="cpu")
    said = {qp.Status.SOLVED: SOLVED, qp.Status.SOLVED_CLOSEST_FEASIBLE: SOLVED, qp.Status.UNBOUNDED: UNBOUNDED}
    said |= {qp.Status.INFEASIBLE: INFEASIBLE, qp.Status.NUMERICAL_ERROR: FAILED}
    return [(x, said.get(qp.Status(int(code)), "")) for x, code in zip(sol.x.numpy(), sol.status, strict=True)]


def piqp(batch: list[Problem], _: Arguments) -> list[Found]:
    """PIQP's dense interface."""
    import piqp

    def solve(p: Problem) -> Found:
        solver = piqp.DenseSolver()
        solver.settings.eps_abs = solver.settings.eps_duality_gap_abs = ASKED
        solver.settings.eps_rel = solver.settings.eps_duality_gap_rel = 0.0
        H, A, C = (np.asfortranarray(p[k]) for k in "HAC")
        solver.setup(H, p["g"], A, p["b"], C, p["l"], p["u"], p["lb"], p["ub"])
        return solver.result.x, said.get(solver.solve(), "")

    said = {piqp.PIQP_SOLVED: SOLVED, piqp.PIQP_PRIMAL_INFEASIBLE: INFEASIBLE}
    said |= {piqp.PIQP_DUAL_INFEASIBLE: UNBOUNDED, piqp.PIQP_NUMERICS: FAILED}
    return [solve(p) for p in batch]


def proxqp(batch: list[Problem], _: Arguments) -> list[Found]:
    """ProxQP's, with the bounds of x as rows."""
    from proxsuite import proxqp

    def solve(p: Problem) -> Found:
        (n, n_eq), C = p["A"].T.shape, np.vstack([p["C"], np.eye(len(p["g"]))])
        solver = proxqp.dense.QP(n, n_eq, len(C))
        solver.settings.eps_abs = solver.settings.eps_duality_gap_abs = ASKED
        solver.settings.eps_rel = solver.settings.eps_duality_gap_rel = 0.0
        solver.settings.check_duality_gap, solver.settings.max_iter = True, 100
        l, u = (np.concatenate(sides).clip(-1e20, 1e20) for sides in ((p["l"], p["lb"]), (p["u"], p["ub"])))
        solver.init(p["H"], p["g"], p["A"], p["b"], C, l, u)
        solver.solve()
        return solver.results.x, said.get(solver.results.info.status, "")

    output = proxqp.QPSolverOutput
    said = {output.PROXQP_SOLVED: SOLVED, output.PROXQP_PRIMAL_INFEASIBLE: INFEASIBLE}
    said |= {output.PROXQP_DUAL_INFEASIBLE: UNBOUNDED}
    return [solve(p) for p in batch]


def daqp(batch: list[Problem], _: Arguments) -> list[Found]:
    """DAQP, whose first rows are the bounds of x."""
    import daqp

    def solve(p: Problem) -> Found:
        u, l = (np.concatenate(sides) for sides in ((p["ub"], p["b"], p["u"]), (p["lb"], p["b"], p["l"])))
        sense = np.where(u == l, 5, 0).astype(np.int32)  # 5: an equality
        rows = np.vstack([p["A"], p["C"]])
        tolerances = {"primal_tol": ASKED, "dual_tol": ASKED}
        x, _, flag, _ = daqp.solve(p["H"], p["g"], rows, u.clip(-1e30, 1e30), l.clip(-1e30, 1e30), sense, **tolerances)
        return x, said.get(flag, "")

    said = {1: SOLVED, -1: INFEASIBLE, -6: INFEASIBLE, -3: UNBOUNDED, -5: FAILED}  # -6: the equalities
    return [solve(p) for p in batch]


Solver = Callable[[list[Problem], Arguments], list[Found]]
SOLVERS: dict[str, tuple[str, str, Solver]] = {  # its column in the table, its package, and how to ask it
    "before": ("before", "qplayer_gpu", ours),
    "now": ("now", "qplayer_gpu", ours),
    "piqp": ("PIQP", "piqp", piqp),
    "proxqp": ("ProxQP", "proxsuite", proxqp),
    "daqp": ("DAQP", "daqp", daqp),
}
