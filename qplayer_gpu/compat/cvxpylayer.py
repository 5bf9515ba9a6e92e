"""The call of cvxpylayers: a problem of CVXPY as a module."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce
from math import prod
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ..errors import ProblemError, ProblemTypeError
from ..layer import solve_qp
from .functions import ACCURACY, settings_of

if TYPE_CHECKING:
    import cvxpy as cp

ACCURACIES = ("eps_abs", "eps", "tol")  # that of OSQP and SCS, of SCS and diffcp, of Moreau


class CvxpyLayer(nn.Module):
    """``CvxpyLayer`` of cvxpylayers 1.2.0 (its torch layer) for the problems of CVXPY that are QPs.

    A problem is one in which all functions are affine, or convex and piecewise affine, except for the objective, which
    may have a convex quadratic part; it is DPP, with ``quad_form(x, P)`` of a parameter P allowed in the objective.
    Where it is infeasible, constraints are shifted as those of ``solve_qp`` are; bounds and other attributes of
    variables hold. ``solver`` and ``verbose`` steer other solvers, are taken and are not used.

    Raises:
        ImportError: CVXPY is not installed.
        ProblemError: the problem is no QP, is not DPP, or the parameters or variables are not its own.
    """

    status: Tensor  #: [B] of Status, of the last call; [] where nothing was batched

    def __init__(
        self,
        problem: cp.Problem,
        parameters: Sequence[cp.Parameter],
        variables: Sequence[cp.Variable],  # or dual variables of its constraints
        solver: str | None = None,
        gp: bool = False,
        verbose: bool = False,
        canon_backend: str | None = None,
        solver_args: Mapping[str, Any] | None = None,
    ):
        super().__init__()
        if gp:
            raise ProblemError("gp must be False: a geometric program is no QP")
        try:
            from .canonical import canonical
        except ImportError as error:
            raise ImportError("CvxpyLayer needs CVXPY: pip install 'cvxpy>=1.9'") from error
        self.program, self.maps = canonical(problem, parameters, variables, canon_backend)
        self.given = [(p.name(), p.shape) for p in parameters]
        self.solver_args = dict(solver_args or {})

    def forward(
        self, *params: Tensor, solver_args: Mapping[str, Any] | None = None, warm_start: bool = False
    ) -> tuple[Tensor, ...]:
        """The variables, ``[(B,) *shape]`` each, for a tensor ``[(B,) *shape]`` for each parameter.

        Parameters without B are shared by the batch. Of ``solver_args``, which go before those given when the layer was
        made, ``eps_abs``, ``eps`` or ``tol`` is the absolute tolerance, though not below 1e-9, and ``backend`` that of
        ``solve_qp``; the others, and ``warm_start``, steer other solvers, are taken and are not used. Computed in
        float64, and returned in the dtype of the parameters.

        Raises:
            ProblemError: shapes or devices do not fit.
        """
        batch = self._batch(params)
        vectors = [flat(t.double(), shape) for t, (_, shape) in zip(params, self.given, strict=True)]
        given = self.program.arguments(vectors)
        if batch is not None:
            given["g"] = given["g"].expand(batch, -1)
        args = self.solver_args | dict(solver_args or {})
        eps = next((args[name] for name in ACCURACIES if name in args), ACCURACY)
        sol = solve_qp(**given, settings=settings_of(eps), backend=args.get("backend", "auto"))
        self.status = sol.status
        dtype = reduce(torch.promote_types, (t.dtype for t in params))
        return tuple(part([sol.x, sol.y, sol.z]).to(dtype) for part in self.maps)

    def _batch(self, params: Sequence[Tensor]) -> int | None:
        """B, or None where nothing is batched; raises unless the tensors are those of the parameters."""
        if len(params) != len(self.given):
            raise ProblemError(
                f"A tensor must be provided for each CVXPY parameter: {len(self.given)}, not {len(params)}"
            )
        batch: int | None = None
        for t, (name, shape) in zip(params, self.given, strict=True):
            if not isinstance(t, Tensor) or not t.is_floating_point():
                kind = t.dtype if isinstance(t, Tensor) else type(t).__name__
                raise ProblemTypeError(f"parameter {name} must be a torch.Tensor of floating point numbers, not {kind}")
            if t.device != params[0].device:
                raise ProblemError(f"parameter {name} is on {t.device}, the first on {params[0].device}")
            (*front,) = t.shape[: t.dim() - len(shape)]
            if len(front) > 1 or tuple(t.shape[len(front) :]) != shape:
                raise ProblemError(
                    f"parameter {name} must have shape {shape} or (B, ...) in front, not {tuple(t.shape)}"
                )
            if front and batch not in (None, front[0]):
                raise ProblemError(f"parameter {name} has a batch of {front[0]}, those before it one of {batch}")
            batch = front[0] if front else batch
        return batch


def flat(t: Tensor, shape: tuple[int, ...]) -> Tensor:
    """[(B,) *shape] -> [(B,) size]."""
    return t.reshape((*t.shape[: t.dim() - len(shape)], prod(shape)))
