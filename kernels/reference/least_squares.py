"""Least squares in the rows W that an infeasible problem shifts, of whatever rank they are."""

from __future__ import annotations

import torch
from torch import Tensor

from .factor import Factor
from .products import Matrices, largest
from .scaling import Scaling

DAMPING = 1e-8  # scaled
PASSES = 10
ACCURACY = 1e-14  # of W't, for the residual that ends the passes


class ShiftedRows:
    """``argmin_b sum w_i (W b - t)_i^2`` by proximal passes with one factor of ``W' diag(w) W + damping``.

    The rows weigh as their shifts do: any other weights, also those of equilibration, would leave the range of W.
    """

    def __init__(self, matrices: Matrices, scaling: Scaling, W: Tensor, w: Tensor):
        self.matrices = matrices
        self.W = W.to(w.dtype).unsqueeze(1)  # [B, 1, m]
        self.unit = scaling.row_unit(w).unsqueeze(-1)
        self.weights = self.unit * w * self.W
        damping = (DAMPING / scaling.D.square()).expand(len(W), -1)
        self.factor = Factor(matrices, self.weights.squeeze(1), damping, sigma=damping.new_zeros(len(W)))

    def times(self, b: Tensor) -> Tensor:
        """``W b``: [B, k, n] -> [B, k, m], zero off W."""
        return self.W * self.matrices.rows(b)

    def fit(self, t: Tensor) -> Tensor:
        """The least-squares b of each target t: [B, k, m] -> [B, k, n]."""
        residual = self.matrices.columns(self.weights * t)
        b = torch.zeros_like(residual)
        goal = ACCURACY * largest(residual.flatten(1))
        for _ in range(PASSES):
            b = b + self.factor.solve(residual)
            residual = self.matrices.columns(self.weights * (t - self.times(b)))
            if (largest(residual.flatten(1)) <= goal).all():
                break
        return b


def shifted_set(s: Tensor, equality: Tensor) -> Tensor:
    """W: the shifted rows and, where any row is shifted, all equalities: [B, m] bool."""
    infeasible = (s != 0).any(-1, keepdim=True)
    return infeasible & (equality | (s != 0))
