"""The factor that every step solves with: in double precision, or in single precision as a preconditioner."""

from __future__ import annotations

import torch
from torch import Tensor

from .. import numbers
from .products import Matrices


class Factor:
    """The Cholesky factor of ``K = sigma H + diag(diagonal) + G' diag(w) G``.

    In mixed precision K is assembled in float32, scaled to a unit diagonal and factored there; each solve takes a few
    steps of conjugate gradients in float64, which multiply by H and G, not by K.
    """

    def __init__(self, matrices: Matrices, w: Tensor, diagonal: Tensor, sigma: Tensor | None = None):
        self.matrices, self.w, self.diagonal, self.sigma = matrices, w, diagonal, sigma
        if matrices.single is None:
            K = matrices.gram(w, diagonal, sigma)
        else:
            K = matrices.single.gram(w.float(), diagonal.float(), None if sigma is None else sigma.float())
            self.scale = K.diagonal(dim1=1, dim2=2).rsqrt()
            K = K * self.scale.unsqueeze(-1) * self.scale.unsqueeze(-2)
            K.diagonal(dim1=1, dim2=2).add_(numbers.MIXED_JITTER)
        self.L, self.info = torch.linalg.cholesky_ex(K)

    def solve(self, r: Tensor) -> Tensor:
        """``K^-1 r``: [B, (k,) n] -> [B, (k,) n]."""
        if r.dim() == 2:
            return self.solve(r.unsqueeze(1)).squeeze(1)
        if self.matrices.single is None:
            return self._substitute(r)
        return self._conjugate_gradients(r)

    def _conjugate_gradients(self, r: Tensor) -> Tensor:
        x, p, before = torch.zeros_like(r), torch.zeros_like(r), torch.ones_like(r[..., :1])
        for _ in range(numbers.MIXED_CG_STEPS):
            y = self._precondition(r)
            now = (r * y).sum(-1, keepdim=True)
            p = y + torch.where(before > 0, now / before, 0.0) * p
            Kp = self._times(p)
            curvature = (p * Kp).sum(-1, keepdim=True)
            alpha = torch.where(curvature > 0, now / curvature, 0.0)
            x, r, before = x + alpha * p, r - alpha * Kp, now
        return x

    def _precondition(self, r: Tensor) -> Tensor:
        scale = self.scale.unsqueeze(1)
        return scale * self._substitute((scale * r).float())

    def _substitute(self, r: Tensor) -> Tensor:
        y = torch.linalg.solve_triangular(self.L, r.mT, upper=False)
        return torch.linalg.solve_triangular(self.L.mT, y, upper=True).mT

    def _times(self, x: Tensor) -> Tensor:
        """``K x`` in double precision: [B, k, n] -> [B, k, n]."""
        curved = self.matrices.hessian(x)
        if self.sigma is not None:
            curved = self.sigma[:, None, None] * curved
        return (
            curved + self.diagonal.unsqueeze(1) * x + self.matrices.columns(self.w.unsqueeze(1) * self.matrices.rows(x))
        )
