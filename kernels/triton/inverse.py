"""The inverse that an iteration of ADMM multiplies by, for problems with matrices of their own."""

import triton
import triton.language as tl

from .factor import factored
from .splitting import flag, matrix


@triton.jit(do_not_specialize=["batched", "n", "k"])
def inverse_kernel(
    H_ptr,  # [B|1, n, n]
    rows_ptr,  # [B|1, k, n] the stored rows
    rho_ptr,  # [B, m], m = k, and n more where x is bounded
    sigma_ptr,  # [B|1, n]
    inverse_out,  # [B, n, n] the output
    failed_out,  # [B] bool, whether the matrix is not definite
    batched,  # bit k: whether H, the rows or sigma have a batch
    n,
    k,
    has_h: tl.constexpr,
    bounded: tl.constexpr,
    N: tl.constexpr,  # n and k rounded up
    M: tl.constexpr,
):
    """The inverse of ``H + diag(sigma) + G' diag(rho) G`` of problem ``program_id(0)``, by the sweep."""
    b = tl.program_id(0).to(tl.int64)
    index = tl.arange(0, N)
    m = k + n if bounded else k
    G = matrix(rows_ptr + b * flag(batched, 1) * k * n, k, n, n, 1, M, N)
    diagonal = tl.load(sigma_ptr + b * flag(batched, 2) * n + index, mask=index < n, other=1.0)
    if bounded:
        diagonal += tl.load(rho_ptr + b * m + k + index, mask=index < n, other=0.0)
    rho = tl.load(rho_ptr + b * m + tl.arange(0, M), mask=tl.arange(0, M) < k, other=0.0)
    K = tl.where(index[:, None] == index[None, :], diagonal[None, :], 0.0)
    K += tl.dot(tl.trans(G * rho[:, None]), G, input_precision="ieee", out_dtype=K.dtype)
    if has_h:
        K += matrix(H_ptr + b * flag(batched, 0) * n * n, n, n, n, 1, N, N)
    K, scale, positive = factored(K, n, N)
    identity = tl.where(index[:, None] == index[None, :], 2.0, 0.0)
    inverse = scale[:, None] * (identity - K) * scale[None, :]
    inside = (index[:, None] < n) & (index[None, :] < n)
    tl.store(inverse_out + b * n * n + index[:, None] * n + index[None, :], inverse.to(K.dtype), mask=inside)
    tl.store(failed_out + b, positive == 0)
