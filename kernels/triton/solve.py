"""The solves of :mod:`~qplayer_gpu.kernels.linear`: by the sweep of the kernels, or by a Cholesky factor."""

import triton
import triton.language as tl

from .factor import entry, factored, row, solved


@triton.jit
def cholesky(K, n, N: tl.constexpr):
    """``K = U'U``: the tile with row j of U in row j, and whether each pivot was > 0.

    Right-looking. The trailing block is symmetric, so that its row j serves as its column j:
    ``u = K_j / sqrt(K_jj)``, ``K <- K - u u'``.
    """
    index = tl.arange(0, N)
    positive = tl.full((), 1, tl.int32)
    for j in range(0, n):
        k = row(K, j, N)
        d = entry(k, j, N)
        positive = tl.where(d > 0, positive, 0)
        root = 1.0 / tl.sqrt(d)
        u = tl.where(index < j, 0.0, k * root)
        K = tl.where(index[:, None] == j, u[None, :], tl.fma(-u[:, None], u[None, :], K))
    return K, positive


@triton.jit
def substituted(U, y, n, N: tl.constexpr):
    """``(U'U)^-1 y``, U upper triangular: row by row to the last and back, [N, N], [N] -> [N]."""
    index = tl.arange(0, N)
    for j in range(0, n):
        u = row(U, j, N)
        y_j = entry(y, j, N) / entry(u, j, N)
        y = tl.where(index == j, y_j, tl.where(index > j, y - u * y_j, y))
    for i in range(0, n):
        j = n - 1 - i
        u = row(U, j, N)
        rest = entry(y, j, N) - tl.sum(tl.where(index > j, u * y, 0.0), axis=0)
        y = tl.where(index == j, rest / entry(u, j, N), y)
    return y


@triton.jit(do_not_specialize=["k", "n"])
def solve_kernel(
    K_ptr,  # [B, n, n]
    r_ptr,  # [B, k, n]
    x_ptr,  # [B, k, n] output: K^-1 r
    failed_ptr,  # [B] bool output: whether K is not positive definite; x is NaN there
    k,
    n,
    N: tl.constexpr,
    METHOD: tl.constexpr,  # "cholesky" or "sweep"
):
    """One program for each matrix."""
    b = tl.program_id(0).to(tl.int64)
    index = tl.arange(0, N)
    inside = (index[:, None] < n) & (index[None, :] < n)
    K = tl.load(K_ptr + b * n * n + (index[:, None] * n + index[None, :]), mask=inside, other=0.0)
    K = tl.where(inside | (index[:, None] != index[None, :]), K, 1.0)
    r, x = r_ptr + b * k * n + index, x_ptr + b * k * n + index
    if METHOD == "cholesky":
        K, positive = cholesky(K, n, N)
    else:
        K, scale, positive = factored(K, n, N)
    for i in range(0, k):
        y = tl.load(r + i * n, mask=index < n, other=0.0)
        y = substituted(K, y, n, N) if METHOD == "cholesky" else solved(K, scale, y)
        tl.store(x + i * n, tl.where(positive != 0, y, float("nan")), mask=index < n)
    tl.store(failed_ptr + b, positive == 0)
