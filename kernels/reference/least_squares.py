"""Least squares in the rows W that an infeasible problem shifts, of whatever rank they are."""

from __future__ import annotations

import torch
from torch import Tensor

from .. import numbers
from ..interface import Options, Rows
from .factor import Factor
from .products import Matrices, largest
from .scaling import Scaling


class ShiftedRows:
    """``argmin_b sum w_i (W b - t)_i^2`` by proximal passes with one factor of ``W' diag(w) W + damping``.

    The rows weigh as their shifts do: any other weights, also those of equilibration, would leave the range of W.
    """

    def __init__(self, matrices: Matrices, scaling: Scaling, W: Tensor, w: Tensor):
        self.matrices = matrices
        self.W = W.to(w.dtype).unsqueeze(1)  # [B, 1, m]
        self.unit = scaling.row_unit(w).unsqueeze(-1)
        self.weights = self.unit * w.unsqueeze(1) * self.W
        damping = (numbers.FIT_DAMPING / scaling.D.square()).expand(len(W), -1)
        self.factor = Factor(matrices, self.weights.squeeze(1), damping, sigma=damping.new_zeros(len(W)))

    def times(self, b: Tensor) -> Tensor:
        """``W b``: [B, k, n] -> [B, k, m], zero off W."""
        return self.W * self.matrices.rows(b)

    def fit(self, t: Tensor) -> Tensor:
        """The least-squares b of each target t: [B, k, m] -> [B, k, n]."""
        residual = self.matrices.columns(self.weights * t)
        b = torch.zeros_like(residual)
        goal = numbers.FIT_ACCURACY * largest(residual.flatten(1))
        for _ in range(numbers.FIT_PASSES):
            b = b + self.factor.solve(residual)
            residual = self.matrices.columns(self.weights * (t - self.times(b)))
            if (largest(residual.flatten(1)) <= goal).all():
                break
        return b


def shifted_rows(
    matrices: Matrices, scaling: Scaling, rows: Rows, x: Tensor, s: Tensor, options: Options
) -> tuple[Tensor, Tensor, Tensor]:
    """W, the shifted rows and the equalities of infeasible problems, with their weights and shifts: [B, m] each.

    Hard rows that press on the shift (``W'(w s) + T'lambda = 0``) are among them, with a weight so large that their
    ``w s = lambda`` is finite and their shift is next to nothing.
    """
    w, hard = rows.weights()
    W = (s != 0).any(-1, keepdim=True) & ~hard & ((rows.lo == rows.hi) | (s != 0))
    if rows.hard is None or not hard.any():
        return W, w, s
    Gx, infeasible = matrices.rows(x), W.any(-1, keepdim=True)
    touching = torch.minimum((Gx - rows.lo).abs(), (rows.hi - Gx).abs()) <= numbers.HARD_TOUCHING * options.eps_abs
    T = infeasible & hard & touching
    size = largest(w * s).unsqueeze(-1)
    w = torch.where(T, numbers.HARD_WEIGHT * w.amax(-1, keepdim=True), w)
    shifted = ShiftedRows(matrices, scaling, W | T, w)
    pressed = T * shifted.times(shifted.fit(-s.unsqueeze(1))).squeeze(1)
    T = (w * pressed).abs() > numbers.HARD_PRESSING * size
    return W | T, w, torch.where(T, pressed, s)
