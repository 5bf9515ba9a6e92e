"""The launch of the iteration of ADMM, in the place of the reference's."""

from __future__ import annotations

import torch
import triton
from torch import Tensor

from .. import numbers
from ..interface import Rows
from ..reference.products import Matrices
from ..reference.splitting import Operators, Way
from .splitting import iterate_kernel
from .vectors import COMPILED

TILE = 16  # problems of a program
LEAST = 16  # the smallest side of a product of matrices
LARGEST_N, LARGEST_K = 64, 128  # what the tiles of a program hold, bounds aside
WARPS = {16: 4, 32: 8, 64: 8}  # by n rounded up
PRECISION = "ieee"  # of the products in float32


def obstacle(rows: Rows) -> str:
    """Why the kernel cannot take such problems, as advice; empty where it can."""
    if not rows.share_matrices:
        return "its ADMM is for batches that share H, A and C"
    if rows.n > LARGEST_N or rows.n_eq + rows.n_in > LARGEST_K:
        return f"its ADMM takes {LARGEST_N} variables and {LARGEST_K} rows at most, bounds aside"
    return ""


def padded(count: int) -> int:
    """The power of two that holds so many."""
    return max(LEAST, triton.next_power_of_2(count))


def iterate(
    matrices: Matrices,
    by: Operators,
    dual: Tensor,  # [B, n]
    z: Tensor,  # [B, m]
    v: Tensor,  # [B, m]
    lo: Tensor,  # [B, m]
    hi: Tensor,  # [B, m]
    count: int,
) -> Way:
    """As the reference's, in one launch over the batch, for matrices that it shares."""
    B, n = dual.shape
    rows = torch.cat([dual.new_empty(0, n), *(G[0] for G in matrices.blocks)])
    way = Way(torch.empty_like(dual), torch.empty_like(z), torch.empty_like(z))
    N = padded(n)
    with torch.cuda.device_of(dual):  # Triton launches on the current device
        iterate_kernel[(triton.cdiv(B, TILE),)](
            *(t.contiguous() for t in (by.inverse, rows, by.rho, by.sigma, dual, z, v, lo, hi)),
            way.dx,
            way.dz,
            way.v,
            B,
            n,
            len(rows),
            count,
            numbers.ADMM_RELAXATION,
            matrices.bounded,
            TILE,
            N,
            padded(len(rows)),
            PRECISION,
            num_warps=WARPS[N],
            **COMPILED,
        )
    return way
