"""What ADMM takes to 1e-4, reaches, and leaves of gradients, by family: the rows of a table in docs/choosing.md.

python tests/precision_admm.py
"""

from __future__ import annotations

import csv
from pathlib import Path

import families as f
import torch
from helpers import one_matrix
from precision import DEGENERATE, gradients
from precision import FAMILIES as OTHERS

import qplayer_gpu as qp

ROWS = Path(__file__).parents[1] / "bench" / "results" / "precision_admm.csv"
TITLES = ("family", "float64 to 1e-4", "reaches", "float32 to 1e-4", "reaches ", "gradient at 1e-4", "at 1e-6")
FAMILIES = OTHERS | {
    "shared matrices and sides, n = 32": lambda: one_matrix(f.feasible(64, 32)),
    "the same, excluding each other, n = 8": lambda: one_matrix(f.excluding_halfspaces(64, 8)),
}
TOLERANCES = [10.0**-k for k in range(2, 9)]
COUNTED = 1e-4  # the tolerance whose iterations are shown


def settings(eps: float, precision: str = "float64") -> qp.Settings:
    """ADMM to a tolerance."""
    return qp.Settings(eps_abs=eps, method="admm", precision=precision, max_iter=4000)


def reach(args, precision: str) -> list[str]:
    """The iterations, and the least tolerance at which all problems are solved."""
    iterations, reached = "-", torch.inf
    for eps in TOLERANCES:
        sol = qp.solve_qp(**args, settings=settings(eps, precision))
        if not (sol.status <= qp.Status.SOLVED_CLOSEST_FEASIBLE).all():
            break
        reached = eps
        if eps == COUNTED:
            iterations = f"{sol.info.iterations.double().mean():.0f}"
    return [iterations, f"{reached:.0e}"]


def errors(args) -> list[str]:
    """How far the gradients are from those of the exact answers, relative to their norm, where all are solved."""
    exact, found = gradients(args, qp.Settings(eps_abs=1e-10)), []
    for eps in (1e-4, 1e-6):
        sol = qp.solve_qp(**args, settings=settings(eps))
        solved = (sol.status <= qp.Status.SOLVED_CLOSEST_FEASIBLE).all()
        error = (gradients(args, settings(eps)) - exact).norm() / exact.norm()
        found.append(f"{error:.0e}" if solved else "-")
    return found


def main() -> None:
    """A row for each family."""
    rows = []
    for name, make in FAMILIES.items():
        args = {"H": None, **make()}
        shown = ["none exists"] * 2 if name in DEGENERATE else errors(args)
        rows.append([name, *reach(args, "float64"), *reach(args, "mixed"), *shown])
        print(*rows[-1], sep=" | ", flush=True)
    with ROWS.open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([TITLES, *rows])


if __name__ == "__main__":
    main()
