"""The multipliers of the rows W that an infeasible problem shifts.

Those rows lose rank (``W's = 0``), so that many multipliers fit one optimum. The answer has those of least norm among
the ones with the signs of inequalities:

    minimise 1/2 sum z_i^2 / w_i   subject to   W'z_W = r,   z_i >= 0 where s_i > 0,   z_i <= 0 where s_i < 0

Its dual, ``minimise 1/2 sum w_i d_i(beta)^2 - r'beta`` with d the part of ``W beta`` that has the signs, is of the
form that the inner loop minimises.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .. import numbers
from ..interface import Answer, Options, Rows, Vectors
from ..numbers import Status
from .least_squares import ShiftedRows, shifted_rows
from .newton import newton_step
from .products import Matrices, largest, take
from .residuals import residuals, shifted_sides
from .scaling import Scaling
from .state import begin


def settle_multipliers(answer: Answer, rows: Rows, matrices: Matrices, scaling: Scaling, options: Options) -> None:
    """Gives the shifted problems their unique multipliers, where these leave the residuals within the tolerances.

    Elsewhere they keep those that the solve found, whose signs on shifted rows may be those of equalities.
    """
    index = (answer.status == Status.SOLVED_CLOSEST_FEASIBLE).nonzero().squeeze(-1)
    if not len(index):
        return
    rows, matrices, scaling = rows.take(index), matrices.take(index), scaling.take(index)
    x, z, s = (t[index] for t in answer.point)
    z, found = _signed_multipliers(rows, matrices, scaling, x, z, s, options)
    products = matrices.hessian(x), matrices.rows(x), matrices.columns(z)
    at = residuals(x, z, *products, rows.g, *shifted_sides(rows.lo, rows.hi, s), options)
    found &= at.hold()
    index = index[found]
    answer.z[index], answer.dual[index], answer.gap[index] = z[found], at.dual[found], at.gap[found]


def _signed_multipliers(
    rows: Rows, matrices: Matrices, scaling: Scaling, x: Tensor, z: Tensor, s: Tensor, options: Options
) -> tuple[Tensor, Tensor]:
    """The multipliers with those of W made unique [B, m], and whether these were found [B]."""
    equality = rows.lo == rows.hi
    W, w, s = shifted_rows(matrices, scaling, rows, x, s, options)
    shifted = ShiftedRows(matrices, scaling, W, w)
    beta = shifted.fit((z / w).unsqueeze(1))
    z = torch.where(W, w * shifted.times(beta).squeeze(1), z)
    found = ~(W & ~equality & (z * s < 0)).any(-1)
    wrong = (~found).nonzero().squeeze(-1)
    if len(wrong):
        lo = torch.where(W & (equality | (s < 0)), 0.0, -torch.inf)[wrong]
        hi = torch.where(W & (equality | (s > 0)), 0.0, torch.inf)[wrong]
        r = matrices.columns(W * z)[wrong]
        signed, found[wrong] = _dual(
            matrices.take(wrong), scaling.take(wrong), take(w, wrong), r, lo, hi, beta[wrong, 0], options
        )
        z[wrong] = torch.where(W[wrong], signed, z[wrong])
    return z, found


def _dual(
    matrices: Matrices,
    scaling: Scaling,
    w: Tensor,  # [B|1, m]
    r: Tensor,  # [B, n]
    lo: Tensor,  # [B, m] and hi: the cone that d leaves out
    hi: Tensor,  # [B, m]
    beta: Tensor,  # [B, n] where to start
    options: Options,
) -> tuple[Tensor, Tensor]:
    """Minimises ``1/2 sum w_i d_i(beta)^2 - r'beta``: the multipliers w d [B, m], and whether they were found [B]."""
    matrices = matrices.without_cost()
    unit = scaling.row_unit(w)
    nothing = torch.zeros_like(lo)
    st = begin(
        -unit * r,
        lo,
        hi,
        w,
        torch.zeros_like(w[:1], dtype=torch.bool),
        matrices,
        scaling,
        options,
        Vectors(beta, nothing, nothing),
    )
    st.metric_rows, st.metric_x = (unit * w).expand_as(nothing), 1 / scaling.D.square()
    st.mu_eq, st.mu_in = torch.ones_like(st.mu_eq), torch.ones_like(st.mu_in)
    for _ in range(numbers.DUAL_STEPS):
        newton_step(st, matrices, scaling)
        st.x_k = st.x
        z = st.z / unit
        goal = numbers.DUAL_ACCURACY * options.eps_abs + numbers.DUAL_ROUNDING * largest(z)
        st.open = largest(matrices.columns(z) - r) > goal
        if not st.open.any():
            break
    return z, ~st.open
