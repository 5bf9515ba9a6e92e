"""The solves of :mod:`~qplayer_gpu.kernels.linear` in batched torch: [B, n, n], [B, k, n] -> [B, k, n], [B] bool."""

from __future__ import annotations

import torch
from torch import Tensor


def cholesky_solve(K: Tensor, r: Tensor) -> tuple[Tensor, Tensor]:
    """By torch's factor."""
    L, info = torch.linalg.cholesky_ex(K)
    return answer(torch.cholesky_solve(r.mT, L).mT, info != 0)


def sweep_solve(K: Tensor, r: Tensor) -> tuple[Tensor, Tensor]:
    """By one rank-1 update for each pivot."""
    d = K.diagonal(dim1=1, dim2=2)
    scale = torch.where(d > 0, d, 1.0).rsqrt()
    K, y = K * scale.unsqueeze(2) * scale.unsqueeze(1), r * scale.unsqueeze(1)
    failed = torch.zeros_like(d[:, 0], dtype=torch.bool)
    for j in range(K.shape[-1]):
        w = K[:, j].clone()
        pivot = w[:, j].clone()
        failed |= ~(pivot > 0)
        w[:, j] -= 1.0
        inverse = 1.0 / pivot
        y = y - w.unsqueeze(1) * (y[:, :, j] * inverse.unsqueeze(1)).unsqueeze(2)
        K = K - w.unsqueeze(2) * (w * inverse.unsqueeze(1)).unsqueeze(1)
    return answer(y * scale.unsqueeze(1), failed)


def answer(x: Tensor, failed: Tensor) -> tuple[Tensor, Tensor]:
    """With NaN for x where it has failed."""
    return x.masked_fill(failed[:, None, None], torch.nan), failed
