"""The optimality conditions of an answer, recomputed from the data alone."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .errors import ProblemTypeError
from .kernels.interface import Rows, Vectors
from .problem import QP, Number, rows_of, sizes_of
from .solution import Solution


@dataclass(frozen=True)
class Certificate:
    """What an answer leaves of each optimality condition, in the units of the data; an unbatched one has no B."""

    primal_residual: Tensor  #: [B] max violation of the shifted rows
    dual_residual: Tensor  #: [B] ``max |Hx + g + A'y + C'z + z_box|``
    gap: Tensor  #: [B] sum of ``|multiplier|`` times the distance of its row from the side that it pushes against
    shift_residual: Tensor  #: [B] ``max |A's_eq + C's_in + s_box|``, weighted: zero where no smaller shift will do


@torch.no_grad()
def certificate(solution: Solution, H: Tensor | None, g: Tensor, **given: Tensor | Number | None) -> Certificate:
    """Measures an answer against its problems, in float64, with none of the solver's code.

    A row that is shifted holds with equality at every feasible point: it counts in the gap by its distance from the
    side that moved, whatever the sign of its multiplier.

    Args:
        solution: what :func:`solve_qp` has returned.
        H: as there, and so is g.
        g: [(B,) n].
        given: the other arguments of the problems by their names there, from A to w_box.

    Raises:
        ProblemError: shapes, dtypes or devices do not fit, or an argument is unknown.
    """
    if not isinstance(solution, Solution):
        raise ProblemTypeError(f"solution must be a Solution, not {type(solution).__name__}")
    if unknown := given.keys() - set(QP._fields):
        raise ProblemTypeError(f"certificate() has no argument {min(unknown)!r}; after g there are those of solve_qp()")
    qp = QP(H, g, **(dict.fromkeys(QP._fields[2:]) | given))
    sizes = sizes_of(qp)
    rows, _ = rows_of(qp, sizes)
    found = conditions(rows, solution.vectors("the solution", sizes, qp.g.device))
    return found if sizes.batch is not None else Certificate(*(v.squeeze(0) for v in vars(found).values()))


def conditions(rows: Rows, point: Vectors) -> Certificate:
    """What a point leaves of each condition, of rows as the kernels take them."""
    x, z, s = point
    split = rows.n_eq, rows.n_in, rows.m - rows.n_eq - rows.n_in
    Gx = torch.cat([torch.einsum("...mn,...n->...m", M, x) for M in (rows.A, rows.C)] + [x[:, : split[2]]], -1)
    Hx = torch.zeros_like(x) if rows.H is None else torch.einsum("...ij,...j->...i", rows.H, x)

    def columns(v: Tensor) -> Tensor:
        y, z_in, z_box = v.split(split, -1)
        total = torch.einsum("...mn,...m->...n", rows.A, y) + torch.einsum("...mn,...m->...n", rows.C, z_in)
        return total + z_box if rows.bounded else total

    below, above = Gx - rows.lo - s, rows.hi + s - Gx
    side = torch.where(s == 0, z, s)
    distance = torch.where(side > 0, above, torch.where(side < 0, below, 0.0)).abs()
    gap = torch.where(z == 0, 0.0, z.abs() * distance).sum(-1)
    violation = torch.cat([-torch.minimum(below, above), x.new_zeros(len(x), 1)], -1).amax(-1)
    dual, push = (v.abs().amax(-1) for v in (Hx + rows.g + columns(z), columns(rows.weights()[0] * s)))
    return Certificate(violation, dual, gap, push)
