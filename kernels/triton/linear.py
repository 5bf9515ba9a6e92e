"""The solves of :mod:`~qplayer_gpu.kernels.linear`, one program for each matrix: [B, n, n], [B, k, n] -> the same."""

from __future__ import annotations

import torch
import triton
from torch import Tensor

from .solve import solve_kernel
from .vectors import COMPILED

WARPS = {8: 1, 16: 1, 32: 2, 64: 4}  # by n rounded up to a power of two
LARGEST = max(WARPS)


def cholesky_solve(K: Tensor, r: Tensor) -> tuple[Tensor, Tensor]:
    """By the Cholesky factor."""
    return launch(K, r, "cholesky")


def sweep_solve(K: Tensor, r: Tensor) -> tuple[Tensor, Tensor]:
    """By the scaled symmetric sweep."""
    return launch(K, r, "sweep")


def launch(K: Tensor, r: Tensor, method: str) -> tuple[Tensor, Tensor]:
    """One launch over the batch."""
    B, k, n = r.shape
    x, failed = torch.empty_like(r, memory_format=torch.contiguous_format), K.new_empty(B, dtype=torch.bool)
    if B:
        N = max(min(WARPS), triton.next_power_of_2(n))
        with torch.cuda.device_of(K):  # Triton launches on the current device
            solve_kernel[(B,)](
                K.contiguous(), r.contiguous(), x, failed, k, n, N, method, num_warps=WARPS[N], **COMPILED
            )
    return x, failed
