"""Problems for the compiled kernels, and how far these are from the reference."""

from __future__ import annotations

import math

import torch
from helpers import as_rows

import qplayer_gpu as qp
from qplayer_gpu import trial
from qplayer_gpu.kernels import reference
from qplayer_gpu.kernels.interface import Kernels, Options, Rows, Vectors

CPU = torch.device("cpu")
CASES = ("qp", "lp", "hard", "weighted", "warm")
SAME = 1e-9  # of a vector, next to its length: rounding errors of other orders of summation
SAME_FITTED = 5e-6  # of a fit: along the null space of its rows, rounding of 64 terms over a damping of 1e-8 is 1.4e-6
SAME_MIXED = 1e-7  # eps_abs through the conditioning of the problems
FITTED = ("b_s", "b_z")


def rows_of(case: str, n: int, batch: int) -> Rows:
    """Problems with equalities, two-sided rows and bounds, the first and every other one of them infeasible."""
    args = trial.problems(n, case == "lp", CPU)
    if case == "hard":
        args["w_box"] = math.inf
    if case == "weighted":
        args["w_in"] = torch.linspace(0.5, 3.0, args["C"].shape[1], dtype=torch.float64)
    return as_rows(args).take(torch.arange(batch))


def start_of(case: str, rows: Rows, options: Options) -> Vectors | None:
    """An answer to problems nearby, for a warm start."""
    return reference.forward(rows._replace(g=1.1 * rows.g), options).point if case == "warm" else None


def differences(kernels: Kernels, case: str, n: int, batch: int, precision: str = "float64") -> dict[str, float]:
    """How far each vector is from the reference's, next to its length; both adjoints at its answer."""
    options = qp.Settings(precision=precision).options(torch.float64, CPU)
    rows = rows_of(case, n, batch)
    start = start_of(case, rows, options)
    theirs = reference.forward(rows, options, start)
    ours = kernels.forward(rows, options, start)
    if ours.status.tolist() != theirs.status.tolist():
        return {"status": math.inf}
    torch.manual_seed(n)
    grad = Vectors(*map(torch.randn_like, theirs.point))
    adjoints = (each.adjoint(rows, theirs.point, grad, options)._asdict() for each in (kernels, reference))
    mine, other = (
        answer.point._asdict() | {"z_unique": adjoint.pop("z")} | adjoint
        for answer, adjoint in zip((ours, theirs), adjoints, strict=True)
    )
    return {name: ((v - other[name]).norm() / (1 + other[name].norm())).item() for name, v in mine.items()}


def complaints(found: dict[str, float], precision: str = "float64") -> list[str]:
    """What is further off than it may be.

    The multipliers of a mixed solve are those on its way: of rows that exclude each other the unique ones take their
    place only where the residuals allow it, on a CPU too. Those of the adjoint are unique.
    """
    limits = dict.fromkeys(FITTED, SAME_FITTED)
    if precision == "mixed":
        limits |= dict.fromkeys("xs", SAME_MIXED) | {"z": math.inf}
    return [f"{name}: {far:.1e}" for name, far in found.items() if not far <= limits.get(name, SAME)]
