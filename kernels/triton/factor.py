"""Factor and solve of one SPD matrix held as a register tile.

Two methods behind one interface: ``factored`` factors K, ``solved`` solves with a right-hand side. A tile K is [N, N]
and a vector [N], N a power of two; entries beyond n are those of the unit matrix, or of any other positive diagonal.
Vectors are those of the columns of the tile.
"""

import triton
import triton.language as tl

CHOLESKY = tl.constexpr(0)
SWEEP = tl.constexpr(1)


@triton.jit
def entry(v, j, N: tl.constexpr):
    """``v_j``: [N] -> scalar."""
    return tl.sum(tl.where(tl.arange(0, N) == j, v, 0.0), axis=0)


@triton.jit
def row(K, j, N: tl.constexpr):
    """Row j of K: [N, N] -> [N]."""
    return tl.sum(tl.where(tl.arange(0, N)[:, None] == j, K, 0.0), axis=0)


@triton.jit
def diagonal(K, N: tl.constexpr):
    """The diagonal of K: [N, N] -> [N]."""
    index = tl.arange(0, N)
    return tl.sum(tl.where(index[:, None] == index[None, :], K, 0.0), axis=0)


@triton.jit
def turned(v, N: tl.constexpr):
    """The vector [N] of the columns of a tile as one of its rows: [N, 1]."""
    return tl.expand_dims(v, 1)


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
        K = tl.where(index[:, None] == j, u[None, :], K - turned(u, N) * u[None, :])
    return K, positive


@triton.jit
def back_substituted(U, y, n, N: tl.constexpr):
    """``U^-1 y``, U upper triangular, row by row from the last: [N, N], [N] -> [N]."""
    index = tl.arange(0, N)
    for i in range(0, n):
        j = n - 1 - i
        u = row(U, j, N)
        rest = entry(y, j, N) - tl.sum(tl.where(index > j, u * y, 0.0), axis=0)
        y = tl.where(index == j, rest / entry(u, j, N), y)
    return y


@triton.jit
def forward_substituted(U, y, n, N: tl.constexpr):
    """``U'^-1 y``: [N, N], [N] -> [N]."""
    index = tl.arange(0, N)
    for j in range(0, n):
        u = row(U, j, N)
        y_j = entry(y, j, N) / entry(u, j, N)
        y = tl.where(index == j, y_j, tl.where(index > j, y - u * y_j, y))
    return y


@triton.jit
def sweep(K, n, N: tl.constexpr):
    """``2 I - K^-1`` of a K with unit diagonal, and whether each pivot was > 0.

    For each pivot j: ``d = K_jj``, w row j but ``w_j = d - 1``; ``K <- K - w w'/d``. Without the unit diagonal digits
    are lost.
    """
    index = tl.arange(0, N)
    positive = tl.full((), 1, tl.int32)
    for j in range(0, n):
        k = row(K, j, N)
        d = entry(k, j, N)
        positive = tl.where(d > 0, positive, 0)
        inverse = 1.0 / d
        w = tl.where(index == j, d - 1.0, k)
        K = K - turned(w, N) * (w * inverse)[None, :]
    return K, positive


@triton.jit
def factored(K, n, N: tl.constexpr, METHOD: tl.constexpr):
    """Factors K: the factor [N, N], its scale [N], and whether K is definite."""
    if METHOD == CHOLESKY:
        K, positive = cholesky(K, n, N)
        scale = tl.full((N,), 1.0, K.dtype)
    else:
        d = diagonal(K, N)
        scale = 1.0 / tl.sqrt(tl.where(d > 0, d, 1.0))
        K, positive = sweep(K * turned(scale, N) * scale[None, :], n, N)
    return K, scale, positive


@triton.jit
def solved(K, scale, y, n, N: tl.constexpr, METHOD: tl.constexpr):
    """``K^-1 y`` from the factor and the scale that :func:`factored` returned: [N]."""
    if METHOD == CHOLESKY:
        y = back_substituted(K, forward_substituted(K, y, n, N), n, N)
    else:
        r = y * scale
        y = scale * (2.0 * r - tl.sum(K * turned(r, N), axis=0))
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
    METHOD: tl.constexpr,
):
    """The methods alone, one program for each matrix."""
    b = tl.program_id(0).to(tl.int64)
    index = tl.arange(0, N)
    inside = (index[:, None] < n) & (index[None, :] < n)
    K = tl.load(K_ptr + b * n * n + (index[:, None] * n + index[None, :]), mask=inside, other=0.0)
    K = tl.where(inside | (index[:, None] != index[None, :]), K, 1.0)
    r, x = r_ptr + b * k * n + index, x_ptr + b * k * n + index
    K, scale, positive = factored(K, n, N, METHOD)
    for i in range(0, k):
        y = solved(K, scale, tl.load(r + i * n, mask=index < n, other=0.0), n, N, METHOD)
        tl.store(x + i * n, tl.where(positive != 0, y, float("nan")), mask=index < n)
    tl.store(failed_ptr + b, positive == 0)
