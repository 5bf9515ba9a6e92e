"""The optimality conditions of an answer, recomputed from the data alone."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .errors import ProblemError
from .problem import Parameters, Problem
from .settings import Settings
from .solution import Solution


@dataclass(frozen=True)
class Certificate:
    """What an answer leaves of each optimality condition, in the units of the data; an unbatched one has no B."""

    primal_residual: Tensor  #: [B] max violation of the shifted rows
    dual_residual: Tensor  #: [B] ``max |Hx + g + A'y + C'z + z_box|``
    gap: Tensor  #: [B] sum of ``|multiplier|`` times the distance of its row from the side that it pushes against
    shift_residual: Tensor  #: [B] ``max |A's_eq + C's_in + s_box|``, weighted: zero where no smaller shift will do


@torch.no_grad()
def certificate(
    solution: Solution,
    H: Tensor | None,  # [(B,) n, n]
    g: Tensor,  # [(B,) n]
    A: Tensor | None = None,  # [(B,) n_eq, n]
    b: Tensor | None = None,  # [(B,) n_eq]
    C: Tensor | None = None,  # [(B,) n_in, n]
    l: Tensor | None = None,  # [(B,) n_in]
    u: Tensor | None = None,  # [(B,) n_in]
    lb: Tensor | None = None,  # [(B,) n]
    ub: Tensor | None = None,  # [(B,) n]
    *,
    settings: Settings | None = None,
) -> Certificate:
    """Measures an answer against its problems, in float64, with none of the solver's code.

    A row that is shifted holds with equality at every feasible point: it counts in the gap by its distance from the
    side that moved, whatever the sign of its multiplier.

    Raises:
        ProblemError: shapes, dtypes or devices do not fit.
    """
    settings = Settings() if settings is None else settings
    problem = Problem.of(Parameters(H, g, A, b, C, l, u, lb, ub), settings)
    rows = problem.rows
    expected = ((rows.batch,) if problem.batched else ()) + (rows.n,)
    counts = (solution.y.shape[-1], solution.z.shape[-1])
    if tuple(solution.x.shape) != expected or counts != (rows.n_eq, rows.n_in) or solution.x.device != rows.g.device:
        raise ProblemError(
            f"the solution has x of shape {tuple(solution.x.shape)}, {counts} rows of A and C, on {solution.x.device}; "
            f"the problem has {expected}, {(rows.n_eq, rows.n_in)}, on {rows.g.device}"
        )
    x, z, s = (
        torch.cat(parts, -1).double().reshape(rows.batch, -1)
        for parts in (
            [solution.x],
            [solution.y, solution.z, solution.z_box],
            [solution.s_eq, solution.s_in, solution.s_box],
        )
    )
    z, s = z[:, : rows.m], s[:, : rows.m]
    box = x[:, : rows.m - rows.n_eq - rows.n_in]
    Gx = torch.cat([torch.einsum("...mn,...n->...m", M, x) for M in (rows.A, rows.C)] + [box], -1)
    Hx = torch.zeros_like(x) if rows.H is None else torch.einsum("...ij,...j->...i", rows.H, x)

    def columns(v: Tensor) -> Tensor:
        y, z_in, z_box = v.split([rows.n_eq, rows.n_in, box.shape[-1]], -1)
        total = torch.einsum("...mn,...m->...n", rows.A, y) + torch.einsum("...mn,...m->...n", rows.C, z_in)
        return total + z_box if rows.bounded else total

    below, above = Gx - rows.lo - s, rows.hi + s - Gx
    side = torch.where(s == 0, z, s)
    distance = torch.where(side > 0, above, torch.where(side < 0, below, 0.0)).abs()
    gap = torch.where(z == 0, 0.0, z.abs() * distance).sum(-1)
    violation = torch.cat([-torch.minimum(below, above), x.new_zeros(len(x), 1)], -1).amax(-1)
    dual, push = (v.abs().amax(-1) for v in (Hx + rows.g + columns(z), columns(rows.w * s)))
    values = (violation, dual, gap, push)
    return Certificate(*(v if problem.batched else v.squeeze(0) for v in values))
