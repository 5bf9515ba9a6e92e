"""The least tolerance that each precision reaches on each family, the rows of the table in docs/precision.md.

python tests/precision.py
"""

from __future__ import annotations

import csv
from pathlib import Path

import families as f
import hard as h
import torch

import qplayer_gpu as qp

ROWS = Path(__file__).parents[1] / "bench" / "results" / "precision.csv"
TITLES = ("family", "float64", "mixed", "gradient in mixed")
# max_iter is below the steps after which double precision takes over from mixed
MAX_ITER = 150
TOLERANCES = [10.0**-k for k in range(6, 14)]
DEGENERATE = {"degenerate, n = 16", "netlib-like LP, n = 30"}  # without a derivative at their optima
FAMILIES = {
    "random feasible, n = 32": lambda: f.feasible(64, 32),
    "two-sided rows and bounds, n = 17": lambda: f.feasible(64, 17, two_sided=True, bounds=True),
    "LP, n = 20": lambda: f.lp(64, 20),
    "degenerate, n = 16": lambda: h.degenerate(64, 16),
    "scales over 4 decades, n = 16": lambda: h.ill_scaled(64, 16, decades=2),
    "scales over 8 decades, n = 16": lambda: h.ill_scaled(64, 16, decades=4),
    "netlib-like LP, n = 30": lambda: h.netlib_like(64, 30),
    "more equalities than unknowns, n = 32": lambda: f.overdetermined(64, 32),
    "half-spaces that exclude each other, n = 8": lambda: f.excluding_halfspaces(64, 8),
    "Sudoku LP at its random start": lambda: f.sudoku_lp(50),
}


def gradients(args, settings) -> torch.Tensor:
    """The gradients of all parameters for a loss that looks at x and the shifts."""
    leaves = {k: v.clone().requires_grad_() for k, v in args.items() if v is not None}
    sol = qp.solve_qp(**{"H": None, **leaves}, settings=settings, backend="torch")
    (sol.x.square().sum() + sum(s.square().sum() for s in (sol.s_eq, sol.s_in, sol.s_box))).backward()
    return torch.cat([leaf.grad.flatten() for leaf in leaves.values()])


def reach(args, precision) -> float:
    """The least eps_abs at which every problem of the batch is solved."""
    reached = torch.inf
    for eps in TOLERANCES:
        sol = qp.solve_qp(
            **args, settings=qp.Settings(eps_abs=eps, precision=precision, max_iter=MAX_ITER), backend="torch"
        )
        if not (sol.status <= qp.Status.SOLVED_CLOSEST_FEASIBLE).all():
            break
        reached = eps
    return reached


def main() -> None:
    """A row for each family."""
    rows = []
    for name, make in FAMILIES.items():
        args = make()
        exact = gradients(args, qp.Settings(eps_abs=1e-10, precision="float64"))
        error = (gradients(args, qp.Settings(precision="mixed")) - exact).norm() / exact.norm()
        shown = "none exists" if name in DEGENERATE else f"{error:.0e}"
        rows.append([name, f"{reach(args, 'float64'):.0e}", f"{reach(args, 'mixed'):.0e}", shown])
    with ROWS.open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([TITLES, *rows])


if __name__ == "__main__":
    main()
