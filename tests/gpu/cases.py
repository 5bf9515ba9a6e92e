"""Problems for the compiled kernels, and how far these are from the reference."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import NamedTuple

import torch
from helpers import OPTIONS, as_rows

import qplayer_gpu as qp
from qplayer_gpu import trial
from qplayer_gpu.kernels import reference
from qplayer_gpu.kernels.interface import Kernels, Options, Rows, Vectors
from qplayer_gpu.kernels.reference import splitting
from qplayer_gpu.kernels.reference.admm import REFERENCE, State, Steps
from qplayer_gpu.kernels.reference.advance import Point, Posed, measure
from qplayer_gpu.kernels.reference.products import Matrices
from qplayer_gpu.kernels.reference.scaling import measure_scaling

CPU = torch.device("cpu")
CASES = ("qp", "lp", "hard", "weighted", "warm")
ADMM = (
    "admm",
    "admm in float32",
    "admm, no bounds",
    "admm, no bounds, in float32",
    "admm, own matrices",
    "admm, own matrices, no bounds, in float32",
)
SAME = 1e-9  # of a vector, next to its length: rounding errors of other orders of summation
SAME_FITTED = 5e-6  # of a fit: along the null space of its rows, rounding of 64 terms over a damping of 1e-8 is 1.4e-6
SAME_MIXED = 1e-7  # eps_abs through the conditioning of the problems
FITTED = ("b_s", "b_z")
ITERATIONS = 10  # of ADMM
SAME_INVERSE = 8.0  # times the error of the reference's inverses: the sweep's is some five times that of Cholesky's
SAME_SINGLE = 4.0  # times the error that float32 makes in the reference's iterations


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


class First(NamedTuple):
    """What ADMM's first iterations take."""

    point: Point
    posed: Posed
    matrices: Matrices
    by: splitting.Operators


def first_of(rows: Rows, single: bool, steps: Steps = REFERENCE) -> First:
    """It, in one precision or the other, some way from the start."""
    matrices = Matrices.of(rows, single)
    scaling = measure_scaling(matrices, rows.g, rows.lo, rows.hi, True)
    st = State.begin(rows, matrices, scaling, None)
    by = steps.operators(matrices, splitting.Metric.of(rows.lo, rows.hi, scaling, rows.share_matrices), st.rho)
    point, _ = REFERENCE.advance(st.point, st.posed, matrices, by, OPTIONS, 1)
    return First(point, st.posed, matrices, by)


def differences_of_iterations(steps: Steps, rows: Rows, single: bool) -> dict[str, float]:
    """How far each vector is from the reference's after some iterations of ADMM, next to what it may be.

    And each number that is measured there, from the reference's at the same point.
    """
    first = first_of(rows, single, steps)
    ours, measured = steps.advance(*first, OPTIONS, ITERATIONS)
    theirs, _ = exact, _ = REFERENCE.advance(*first, OPTIONS, ITERATIONS)
    if single:
        double = replace(first.matrices, single=None)
        wide = splitting.Operators.of(double, first.by.inverse.double(), first.by.rho.double(), first.by.failed)
        exact, _ = REFERENCE.advance(first.point, first.posed, double, wide, OPTIONS, ITERATIONS)
    found = {}
    for name, v in vars(ours).items():
        size = 1 + getattr(exact, name).norm()
        rounding = (getattr(theirs, name) - getattr(exact, name)).norm() / size
        allowed = SAME_SINGLE * rounding + 1e-6 if single else SAME
        found[name] = ((v - getattr(exact, name)).norm() / size / allowed).item()
    expected = measure(first.point, ours, first.posed, OPTIONS)
    for name, number in vars(measured).items():
        other = getattr(expected, name)
        far = torch.where(number == other, 0.0, (number - other).abs() / (1 + other.abs()))
        found[f"{name} there"] = far.max().item() / SAME
    return found


def error_of_inverses(steps: Steps, rows: Rows, single: bool) -> float:
    """How far ``K inverse`` is from the unit matrix, next to what it may be by the reference's."""
    ours, theirs = (first_of(rows, single, by) for by in (steps, REFERENCE))
    metric = splitting.Metric.of(rows.lo, rows.hi, ours.posed.scaling, rows.share_matrices)
    matrices = Matrices.of(rows, single)
    _, sigma, _ = splitting.weighed(matrices, metric, ours.by.rho[:, :1])
    K = matrices.gram(ours.by.rho.double(), sigma.double().expand(len(ours.by.rho), -1), None)
    mine, other = ((K @ each.by.inverse.double() - torch.eye(rows.n)).norm() for each in (ours, theirs))
    return (mine / (SAME_INVERSE * other + 1e-15)).item() if not ours.by.failed.any() else math.inf


def shared_rows(n: int, batch: int) -> Rows:
    """Problems with one H, A and C."""
    *arrays, _ = rows_of("qp", n, 2).take(torch.ones(batch, dtype=torch.long))
    one = {name: t if t is None else t[:1] for name, t in zip(Rows._fields, arrays, strict=False)}
    return Rows(**one | {"g": torch.linspace(1, 2, batch, dtype=torch.float64)[:, None] * one["g"]}, batch=batch)


def wrong_iterations(case: str, n: int, batch: int) -> list[str]:
    """What of Triton's iterations of ADMM is further off than it may be."""
    from qplayer_gpu.kernels.triton import admm  # which a process without Triton does not have

    rows = rows_of("qp", n, batch) if "own" in case else shared_rows(n, batch)
    if "no bounds" in case:
        rows = rows._replace(lo=rows.lo[:, :-n], hi=rows.hi[:, :-n], w=None, hard=None)
    single = "float32" in case
    found = differences_of_iterations(admm.STEPS, rows, single)
    found["inverse"] = error_of_inverses(admm.STEPS, rows, single)
    return [f"{name}: {far:.1e} of what it may be" for name, far in found.items() if not far <= 1]
