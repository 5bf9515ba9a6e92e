"""What CVXPY makes of a problem: maps from its parameters to the data of a QP, and from the answer to its variables.

Canonicalisation brings variables and rows of its own: ``sum_squares(F @ x - h)`` is that of a variable t with
``t == F @ x - h``. Such a t is eliminated. The other rows that CVXPY adds are definitions as well, and weigh
infinitely: what is shifted to make a problem feasible are constraints that the user wrote.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cvxpy as cp
from cvxpy.error import DCPError, DPPError, SolverError
from cvxpy.problems.problem_form import ProblemForm  # from 1.9 on
from cvxpy.reductions.solvers.qp_solvers.qp_solver import QpSolver

from ..errors import ProblemError
from .affine import Affine
from .builder import Builder
from .program import Program

CONES = {"SOC": "second-order cones", "ExpCone": "exponential cones", "PSD": "semidefinite cones"}


class _Maps(QpSolver):  # type: ignore[misc]
    """The end of a chain of CVXPY's reductions, a solver of QPs with bounds, which hands over what arrives there."""

    BOUNDED_VARIABLES = True

    def name(self) -> str:
        return "qplayer_gpu"

    def import_solver(self) -> None:
        pass

    def apply(self, problem: Any) -> tuple[Any, None]:
        return problem, None

    def invert(self, *_: Any) -> None:
        raise NotImplementedError

    def solve_via_data(self, *_: Any, **__: Any) -> None:
        raise NotImplementedError

    def cite(self, data: Any) -> str:
        return ""


def canonical(
    problem: cp.Problem, parameters: Sequence[cp.Parameter], variables: Sequence[cp.Variable], backend: str | None
) -> tuple[Program, list[Affine]]:
    """The QP of a problem, and the variables, its own or dual variables of constraints, as maps of (x, y, z).

    Raises:
        ProblemError: it is no QP, not DPP, or the parameters or variables are not its own.
    """
    check(problem, parameters, variables)
    copy = cp.Problem(problem.objective, problem.constraints)  # a problem keeps what it was compiled to last
    try:
        found, chain, _ = copy.get_problem_data(_Maps(), enforce_dpp=True, canon_backend=backend)
    except DPPError:
        raise ProblemError(
            "problem must be DPP, affine in its parameters at each place: see cvxpy.org/tutorial/dpp"
        ) from None
    except DCPError as error:
        raise ProblemError(f"problem must be convex by the rules of CVXPY: {error}") from None
    except SolverError:
        raise ProblemError(f"problem must be a QP: {reason(problem)}") from None
    builder = Builder(found, chain.reductions[:-1], problem, parameters)
    return builder.program(), [builder.variable(v) for v in variables]


def check(problem: cp.Problem, parameters: Sequence[cp.Parameter], variables: Sequence[cp.Variable]) -> None:
    """Raises unless the parameters are those of the problem and the variables some of its own or of its duals."""
    if {p.id for p in parameters} != {p.id for p in problem.parameters()} or len(parameters) != len(set(parameters)):
        raise ProblemError("parameters must exactly match problem.parameters()")
    if not parameters:
        raise ProblemError("parameters is empty: a problem without any is solved once, by problem.solve()")
    own = {v.id for v in problem.variables()} | {d.id for c in problem.constraints for d in c.dual_variables}
    for v in variables:
        if v.id not in own:
            raise ProblemError(f"variables must be a subset of problem.variables() and of dual variables: not {v}")
    if not problem.variables():
        raise ProblemError("problem has no variables")
    if any(leaf.is_complex() for leaf in (*parameters, *problem.variables())):
        raise ProblemError("problem must be real: split what is complex into its parts")


def reason(problem: cp.Problem) -> str:
    """Why CVXPY does not make a QP of it."""
    if problem.is_mixed_integer():
        return "it has integer variables"
    form = ProblemForm(problem)
    cones = {c.__name__ for c in form.cones(quad_obj=form.has_quadratic_objective())} - {"Zero", "NonNeg", "NonPos"}
    return "it takes " + " and ".join(sorted(CONES.get(name, name) for name in cones))
