"""The optimality conditions of an answer, recomputed from the data alone."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Generic

import torch
from torch import Tensor

from . import arrays
from .arrays import Array
from .errors import ProblemTypeError
from .kernels.interface import Rows, Vectors
from .kernels.numbers import ROUNDING
from .problem import QP, Number, rows_of, sizes_of
from .solution import Record, Solution

AT_A_SIDE = 1e-6  # so near, relatively, a hard row is at its side
PRESSING = 1e-10  # of the largest pull: with less a hard row does not press on the shift


@dataclass(frozen=True)
class Certificate(Record, Generic[Array]):
    """How far an answer is from each optimality condition, in the units of the data; an unbatched one has no B."""

    primal_residual: Array
    """[B] The largest violation of a shifted row."""
    dual_residual: Array
    """[B] The largest entry of ``|Hx + g + A'y + C'z + z_box|``."""
    gap: Array
    """[B] The complementarity gap, which is the sum over the rows of ``|multiplier|`` times the distance of the row
    from the side that the multiplier pushes against."""
    shift_residual: Array
    """[B] The largest entry of ``|A's_eq + C's_in + s_box|``, each shift times its weight, after what hard rows take of
    it that are at a side. It is zero where no smaller shift makes the problem feasible."""
    primal_rounding: Array
    """[B] What rounding may leave of a primal residual, 1e-15 times the sum of its terms."""
    dual_rounding: Array
    """[B] What rounding may leave of a dual residual."""
    gap_rounding: Array
    """[B] What rounding may leave of the gap, the sum of ``|multiplier|`` times what rounding may leave of its row."""


@torch.no_grad()
def certificate(
    solution: Solution[Array],
    H: Array | None,
    g: Array,
    A: Array | None = None,
    b: Array | Number | None = None,
    *,
    C: Array | None = None,
    l: Array | Number | None = None,
    u: Array | Number | None = None,
    lb: Array | Number | None = None,
    ub: Array | Number | None = None,
    w_eq: Array | Number | None = None,
    w_in: Array | Number | None = None,
    w_box: Array | Number | None = None,
) -> Certificate[Array]:
    """Measures an answer against its problems, in float64, with none of the solver's code.

    No tolerance below the rounding errors of a residual can be met: a residual that is at most its ``_rounding`` is as
    good as zero.

    A row that is shifted holds with equality at every feasible point. It counts in the gap by its distance from the
    side that moved, whatever the sign of its multiplier. So does a hard row that presses on the shift, from its side.

    Args:
        solution: What :func:`solve_qp` has returned.
        H: The matrix of the cost, and so on: the arguments of that call, from H to w_box.

    Raises:
        ProblemError: Shapes, dtypes or devices do not fit, or the problems have not the sizes of the answer.
    """
    if not isinstance(solution, Solution):
        raise ProblemTypeError(f"solution must be a Solution, not {type(solution).__name__}")
    qp = QP(H, g, A, b, C, l, u, lb, ub, w_eq, w_in, w_box)  # type: ignore[arg-type]  # of tensors, or made so below
    library = arrays.namespace(qp._asdict() | {"solution": solution.x})
    if library is None:
        return _certificate(solution, qp)  # type: ignore[arg-type, return-value]
    answer = solution.map(partial(arrays.tensor, "solution"))
    return _certificate(answer, QP(*map(arrays.tensor, QP._fields, qp))).map(library.from_dlpack)  # type: ignore[arg-type, return-value]


def _certificate(solution: Solution, qp: QP) -> Certificate:
    sizes = sizes_of(qp)
    rows, crossing = rows_of(qp, sizes)
    point = solution.vectors("the solution", sizes, qp.g.device)
    if crossing is not None:
        point = point._replace(s=point.s - torch.where(point.s == 0, 0.0, crossing))
    found = conditions(rows, point)
    return found if sizes.batch is not None else found[0]


def conditions(rows: Rows, point: Vectors) -> Certificate:
    """What a point leaves of each condition, of rows as the kernels take them."""
    x, z, s = point
    Gx, Hx = _row_products(rows, x), _product(rows.H, x)
    below, above = Gx - rows.lo - s, rows.hi + s - Gx
    w, hard = rows.weights()
    pull = _column_products(rows, w * s)
    pressure = _pressure(rows, pull, below, above) if hard.any() else torch.zeros_like(s)
    side = torch.where(s == 0, torch.where(pressure == 0, z, pressure), s)
    distance = torch.where(side > 0, above, torch.where(side < 0, below, 0.0)).abs()
    sizes = rows._replace(H=None if rows.H is None else rows.H.abs(), A=rows.A.abs(), C=rows.C.abs())
    of_rows = ROUNDING * (_row_products(sizes, x.abs()) + Gx.abs() + s.abs())
    of_columns = ROUNDING * (_product(sizes.H, x.abs()) + rows.g.abs() + _column_products(sizes, z.abs()))
    return Certificate(
        primal_residual=_largest(-torch.minimum(below, above)),
        dual_residual=_largest((Hx + rows.g + _column_products(rows, z)).abs()),
        gap=torch.where(z == 0, 0.0, z.abs() * distance).sum(-1),
        shift_residual=_largest((pull + _column_products(rows, pressure)).abs()),
        primal_rounding=_largest(of_rows),
        dual_rounding=_largest(of_columns),
        gap_rounding=(z.abs() * of_rows).sum(-1),
    )


def _pressure(rows: Rows, pull: Tensor, below: Tensor, above: Tensor) -> Tensor:
    """The multipliers of hard rows at a side that press on the shift, so that G' of them and ``pull`` cancel: [B, m].

    Those that rounding errors cannot be told from, or that pull from the side, are 0.
    """
    nearest = torch.minimum(below.abs(), above.abs())
    T = rows.weights()[1] & (nearest <= AT_A_SIDE * (1 + rows.lo.abs().minimum(rows.hi.abs())))
    one = torch.eye(rows.n, dtype=pull.dtype, device=pull.device)[: rows.m - rows.n_eq - rows.n_in]
    G = torch.cat([M.expand(len(pull), -1, -1) for M in (rows.A, rows.C, one.unsqueeze(0))], 1) * T.unsqueeze(-1)
    pressure = -_product(torch.linalg.pinv(G).mT, pull)
    pushes = (pressure * (below.abs() - above.abs()) > 0) | (rows.lo == rows.hi)
    tells = pressure.abs() > PRESSING * pull.abs().amax(-1, keepdim=True)
    return torch.where(T & pushes & tells, pressure, 0.0)


def _product(M: Tensor | None, x: Tensor) -> Tensor:
    """``M x``: [B|1, k, n], [B, n] -> [B, k]; zeros where there is no M."""
    return torch.zeros_like(x) if M is None else torch.einsum("...kn,...n->...k", M, x)


def _row_products(rows: Rows, x: Tensor) -> Tensor:
    """``G x``: [B, n] -> [B, m]."""
    return torch.cat([_product(rows.A, x), _product(rows.C, x), x[:, : rows.m - rows.n_eq - rows.n_in]], -1)


def _column_products(rows: Rows, z: Tensor) -> Tensor:
    """``G'z``: [B, m] -> [B, n]."""
    y, z_in, z_box = z.split((rows.n_eq, rows.n_in, rows.m - rows.n_eq - rows.n_in), -1)
    total = _product(rows.A.mT, y) + _product(rows.C.mT, z_in)
    return total + z_box if rows.bounded else total


def _largest(v: Tensor) -> Tensor:
    """The largest entry that is not negative: [B, k] -> [B]."""
    return torch.cat([v, v.new_zeros(len(v), 1)], -1).amax(-1)
