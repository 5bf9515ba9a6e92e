"""Iterations of ADMM beside those of OSQP 1.1 on the same problems: rows to results/splitting.csv.

python -m bench.splitting

It takes a few minutes and needs `osqp`. Neither moves its penalty, scales its data or skips a check, and both end by
OSQP's rule without its duality gap: ``|G x - v|`` and ``|H x + g + G'z|``; both begin at v = 0. So what is compared is
the iteration. The last column has ours as they are, which begin within the sides and end by the violation of the rows
and by complementarity.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path
from unittest.mock import patch

import numpy as np
import scipy.sparse as sp
import torch

import qplayer_gpu as qp
from qplayer_gpu import method
from qplayer_gpu.kernels import numbers
from qplayer_gpu.kernels.interface import Options, Rows, Vectors
from qplayer_gpu.kernels.reference.admm import REFERENCE, Splitting, Steps
from qplayer_gpu.kernels.reference.advance import Measure, Point, Posed
from qplayer_gpu.kernels.reference.products import Matrices, largest
from qplayer_gpu.kernels.reference.splitting import Operators

from . import families
from .problems import QP
from .table import write

FILE = Path(__file__).parent / "results" / "splitting.csv"
FAMILIES = {
    "shared": families.shared,
    "mixed": families.mixed,
    "two_sided": families.two_sided,
    "one_sided": families.one_sided,
    "equalities": families.equalities,
}
SIZES, PENALTIES, TOLERANCES = (8, 32), (0.1, 1.0), (1e-3, 1e-5)
BATCH, MOST = 16, 20000


@dataclass
class Row:
    """A line of the table: mean iterations on a family, with a penalty, to a tolerance."""

    family: str
    n: int
    rho: float
    eps: float
    solved: int
    osqp: float
    ours: float
    own_rule: float


def by_the_rule_of_osqp(
    point: Point, posed: Posed, matrices: Matrices, by: Operators, options: Options, count: int
) -> tuple[Point, Measure]:
    """Iterates as the reference does, and measures what OSQP's rule looks at."""
    after, at = REFERENCE.advance(point, posed, matrices, by, options, count)
    primal = largest(after.Gx - after.v) / options.eps_abs
    return after, replace(at, primal_worst=primal, gap_worst=torch.zeros_like(primal))


def from_zero(rows: Rows, matrices: Matrices, start: Vectors | None) -> Point:
    """The first point of OSQP, which is zero; ours has v within the sides."""
    new = rows.g.new_zeros
    x, z = new(rows.batch, rows.n), new(rows.batch, rows.m)
    return Point(x, z, z, x, z, x)


def ours(problem: QP, rho: float, eps: float, steps: Steps) -> tuple[np.ndarray, np.ndarray]:
    """The iterations that this library takes for each problem, and whether it solves it."""
    settings = qp.Settings(eps_abs=eps, method="admm", equilibrate=False, max_iter=MOST)
    fixed = {"ADMM_RHO": rho, "ADMM_CHECK": 1}
    with (
        patch.multiple(numbers, **fixed),
        patch.object(Splitting, "move_rho", lambda self, at: None),
        patch.object(method, "steps_of", lambda rows, backend: steps),
        patch.object(Point, "begin", Point.begin if steps is REFERENCE else from_zero),
    ):
        sol = qp.solve_qp(**{"H": None, **problem.arrays()}, settings=settings, backend="torch")
    return sol.info.iterations.numpy(), (sol.status == qp.Status.SOLVED).numpy()


def theirs(problem: QP, rho: float, eps: float) -> tuple[np.ndarray, np.ndarray]:
    """The iterations that OSQP takes for each problem, and whether it solves it."""
    import osqp

    found = []
    arrays = {name: np.asarray(array) for name, array in problem.arrays().items()}
    for k in range(len(arrays["g"])):
        one = {name: a[k] if a.ndim > (2 if name in "HAC" else 1) else a for name, a in arrays.items()}
        A = [one[name] for name in "AC" if name in one]
        low = [*([one["b"]] if "b" in one else []), one.get("l", np.full_like(one["u"], -np.inf))]
        high = [*([one["b"]] if "b" in one else []), one["u"]]
        solver = osqp.OSQP()
        solver.setup(
            sp.csc_matrix(np.triu(one["H"])),
            one["g"],
            sp.csc_matrix(np.vstack(A)),
            np.concatenate(low),
            np.concatenate(high),
            rho=rho,
            adaptive_rho=False,
            scaling=0,
            check_termination=1,
            check_dualgap=False,
            eps_abs=eps,
            eps_rel=0.0,
            max_iter=MOST,
            polishing=False,
            verbose=False,
        )
        info = solver.solve().info
        found.append((info.iter, info.status_val == osqp.SolverStatus.OSQP_SOLVED))
    iterations, solved = map(np.array, zip(*found, strict=True))
    return iterations, solved


def measured() -> Iterator[Row]:
    """Measures and yields all rows of the table."""
    for family, make in FAMILIES.items():
        for n in SIZES:
            problem = make(BATCH, n)
            for rho in PENALTIES:
                for eps in TOLERANCES:
                    same = REFERENCE._replace(advance=by_the_rule_of_osqp)
                    found = (theirs(problem, rho, eps), *(ours(problem, rho, eps, s) for s in (same, REFERENCE)))
                    solved = np.logical_and.reduce([part[1] for part in found])
                    means = (float(iterations[solved].mean()) for iterations, _ in found)
                    row = Row(family, n, rho, eps, int(solved.sum()), *means)
                    print(row, flush=True)
                    yield row


if __name__ == "__main__":
    torch.set_num_threads(1)
    write(FILE, [f.name for f in fields(Row)], map(vars, measured()))
