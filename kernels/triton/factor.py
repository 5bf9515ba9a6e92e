"""Factor and solve of one SPD matrix held as a register tile, by the scaled symmetric sweep.

A tile K is [N, N] and a vector [N], N a power of two; entries beyond n are those of the unit matrix, or of any other
positive diagonal. Vectors are those of the columns of the tile.
"""

import triton
import triton.language as tl


@triton.jit
def entry(v, j, N: tl.constexpr):
    """``v_j``: [N] -> scalar."""
    return tl.sum(tl.where(tl.arange(0, N) == j, v, 0.0), axis=0)


@triton.jit
def row(K, j, N: tl.constexpr):
    """Row j of K: [N, N] -> [N]."""
    return tl.sum(tl.where(tl.arange(0, N)[:, None] == j, K, 0.0), axis=0)


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
        K = tl.fma(-w[:, None], (w * inverse)[None, :], K)
    return K, positive


@triton.jit
def factored(K, n, N: tl.constexpr):
    """Factors K: the factor [N, N], its scale [N], and whether K is definite."""
    index = tl.arange(0, N)
    diagonal = tl.sum(tl.where(index[:, None] == index[None, :], K, 0.0), axis=0)
    scale = 1.0 / tl.sqrt(tl.where(diagonal > 0, diagonal, 1.0))
    K, positive = sweep(K * scale[:, None] * scale[None, :], n, N)
    return K, scale, positive


@triton.jit
def solved(K, scale, y):
    """``K^-1 y`` from the factor and the scale that :func:`factored` returned: [N]."""
    r = y * scale
    return scale * (2.0 * r - tl.sum(K * r[:, None], axis=0))
