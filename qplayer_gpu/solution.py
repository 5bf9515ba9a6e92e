"""The answer of a solve."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from torch import Tensor

from .errors import SolveError
from .kernels.interface import Status

ADVICE = {
    Status.MAX_ITERATIONS: "raise Settings.max_iter or eps_abs, or look at the scale of the data",
    Status.INFEASIBLE: "no x satisfies the rows; Settings.closest_feasible=True solves the closest feasible problem",
    Status.UNBOUNDED: "the objective decreases without end; add bounds or a positive definite H",
    Status.NONFINITE_INPUT: "NaN or infinity in the data (only l, lb = -inf and u, ub = inf are allowed)",
    Status.NUMERICAL_ERROR: "H must be positive semidefinite, the data well scaled, and eps_abs above rounding errors",
}


@dataclass(frozen=True)
class Info:
    """How well each problem was solved, in the units of the data."""

    iterations: Tensor  # [B] Newton steps
    primal_residual: Tensor  # [B] max violation of the (shifted) rows
    dual_residual: Tensor  # [B] max |Hx + g + A'y + C'z + z_box|
    gap: Tensor  # [B] complementarity: sum of |multiplier| times the distance from its side


@dataclass(frozen=True)
class Solution:
    """The answers of a batch; an unbatched call has no B.

    ``A x = b + s_eq``, ``l + s_in <= C x <= u + s_in``, ``lb + s_box <= x <= ub + s_box``; the shifts are zero where
    the problem is feasible. ``Hx + g + A'y + C'z + z_box = 0``; a positive ``z`` pushes against the upper side, a
    negative one against the lower.
    """

    x: Tensor  # [B, n]
    y: Tensor  # [B, n_eq]
    z: Tensor  # [B, n_in]
    z_box: Tensor  # [B, n]
    s_eq: Tensor  # [B, n_eq]
    s_in: Tensor  # [B, n_in]
    s_box: Tensor  # [B, n]
    status: Tensor  # [B] of Status
    info: Info

    def check(self) -> Solution:
        """Returns itself, or says what to do about the problems that were not solved.

        Raises:
            SolveError: a problem ended neither SOLVED nor SOLVED_CLOSEST_FEASIBLE.
        """
        counts = Counter(Status(code) for code in self.status.reshape(-1).tolist())
        failures = [f"{counts[status]} {status.name}: {advice}" for status, advice in ADVICE.items() if counts[status]]
        if failures:
            raise SolveError(f"of {counts.total()} problems " + "; ".join(failures))
        return self
