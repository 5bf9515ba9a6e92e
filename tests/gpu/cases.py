"""Problems for the compiled kernels, and how far these are from the reference."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from helpers import as_rows

import qplayer_gpu as qp
from qplayer_gpu import trial
from qplayer_gpu.kernels import reference
from qplayer_gpu.kernels.interface import Kernels, Options, Rows, Vectors
from qplayer_gpu.kernels.reference import splitting
from qplayer_gpu.kernels.reference.admm import State
from qplayer_gpu.kernels.reference.products import Matrices
from qplayer_gpu.kernels.reference.scaling import measure_scaling

CPU = torch.device("cpu")
CASES = ("qp", "lp", "hard", "weighted", "warm")
ADMM = ("admm", "admm in float32")
SAME = 1e-9  # of a vector, next to its length: rounding errors of other orders of summation
SAME_FITTED = 5e-6  # of a fit: along the null space of its rows, rounding of 64 terms over a damping of 1e-8 is 1.4e-6
SAME_MIXED = 1e-7  # eps_abs through the conditioning of the problems
FITTED = ("b_s", "b_z")
ITERATIONS = 10  # of ADMM
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


def told(rows: Rows, single: bool) -> tuple[Matrices, splitting.Operators, list[torch.Tensor]]:
    """What ADMM's first iterations take, in one precision or the other."""
    matrices = Matrices.of(rows, single)
    scaling = measure_scaling(matrices, rows.g, rows.lo, rows.hi, True)
    st = State.begin(rows, matrices, None)
    by = splitting.Operators.of(matrices, splitting.Metric.of(rows, scaling), st.rho)
    Gx = matrices.rows(st.x)
    dual = (matrices.hessian(st.x) + rows.g + matrices.columns(st.z)).expand(rows.batch, -1)
    vectors = [t.to(by.rho.dtype) for t in (dual, st.z, st.v - Gx, st.lo - Gx, st.hi - Gx)]
    return matrices.single or matrices, by, vectors


def differences_of_iterations(iterate: Callable[..., splitting.Way], rows: Rows, single: bool) -> dict[str, float]:
    """How far each vector is from the reference's after some iterations of ADMM, next to what it may be."""
    matrices, by, vectors = told(rows, single)
    ours = iterate(matrices, by, *vectors, ITERATIONS)
    theirs = splitting.iterate(matrices, by, *vectors, ITERATIONS)
    exact = theirs
    if single:
        wide = splitting.Operators(*(t.double() for t in (by.inverse, by.rho, by.sigma)), by.failed)
        exact = splitting.iterate(matrices.map(torch.Tensor.double), wide, *(t.double() for t in vectors), ITERATIONS)
    found = {}
    for name, v in vars(ours).items():
        size = 1 + getattr(exact, name).norm()
        rounding = (getattr(theirs, name) - getattr(exact, name)).norm() / size
        allowed = SAME_SINGLE * rounding + 1e-6 if single else SAME
        found[name] = ((v - getattr(exact, name)).norm() / size / allowed).item()
    return found


def wrong_iterations(case: str, n: int, batch: int) -> list[str]:
    """What of Triton's iterations of ADMM is further off than it may be."""
    from qplayer_gpu.kernels.triton import admm  # which a process without Triton does not have

    rows = rows_of("qp", n, 2)
    *arrays, _ = rows.take(torch.ones(batch, dtype=torch.long))
    one = {name: t if t is None else t[:1] for name, t in zip(Rows._fields, arrays, strict=False)}
    rows = Rows(**one | {"g": torch.linspace(1, 2, batch, dtype=torch.float64)[:, None] * one["g"]}, batch=batch)
    found = differences_of_iterations(admm.iterate, rows, case == "admm in float32")
    return [f"{name}: {far:.1e} of what it may be" for name, far in found.items() if not far <= 1]
