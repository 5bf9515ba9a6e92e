"""The systems that every step solves: ``K = sigma H + diag(P) + G' diag(t) G``, with weights t of the rows in slot T.

As the reference's factor.py: in double precision by the factor, in mixed precision by conjugate gradients in float64,
which multiply by H and G and have the factor in float32 for their preconditioner.
"""

import triton
import triton.language as tl

from ..reference import factor as _factor
from .factor import factored, solved
from .problem import GP, P, T, columns_at, put_columns, put_rows, row_vector
from .products import assembled, columns_of, columns_product, row_product

JITTER = tl.constexpr(_factor.JITTER)
STEPS = tl.constexpr(_factor.STEPS)


@triton.jit
def factor_of(data, sigma, diagonal, r, cfg: tl.constexpr):
    """The factor and its scale, ``K^-1 r`` to the precision of the factor, and whether K is definite."""
    K = assembled(data, sigma, diagonal, cfg)
    if cfg.mixed:
        index = tl.arange(0, cfg.N)
        K = tl.where(index[:, None] == index[None, :], K * (1 + JITTER), K)
    K, scale, y, positive = factored(K, r.to(K.dtype), data.n, cfg.N, cfg.method)
    return K, scale, y.to(tl.float64), positive


@triton.jit
def by_factor(data, K, scale, r, cfg: tl.constexpr):
    """``K^-1 r`` to the precision of the factor: [N]."""
    return solved(K, scale, r.to(K.dtype), data.n, cfg.N, cfg.method).to(tl.float64)


@triton.jit
def times(data, sigma, diagonal, p, cfg: tl.constexpr):
    """``K p`` in double precision: [N]."""
    put_columns(data, P, p, cfg)
    row_product(data, P, GP, cfg)
    put_rows(data, GP, row_vector(data, T, cfg) * row_vector(data, GP, cfg), cfg)
    Kp = diagonal * p + columns_of(data, GP, cfg)
    if cfg.has_h:
        Kp += sigma * columns_product(data.H, data.n, columns_at(data, P, cfg), cfg)  # H is symmetric
    return Kp


@triton.jit
def refined(data, K, scale, sigma, diagonal, r, y, cfg: tl.constexpr):
    """``K^-1 r`` in double precision, given y, the same to the precision of the factor: [N]."""
    if cfg.mixed:
        x, p = 0.0 * r, 0.0 * r
        before = tl.sum(p, axis=0)
        for _ in range(0, STEPS):
            now = tl.sum(r * y, axis=0)
            p = y + tl.where(before > 0, now / before, 0.0) * p
            Kp = times(data, sigma, diagonal, p, cfg)
            curvature = tl.sum(p * Kp, axis=0)
            alpha = tl.where(curvature > 0, now / curvature, 0.0)
            x += alpha * p
            r -= alpha * Kp
            before = now
            y = by_factor(data, K, scale, r, cfg)
    else:
        x = y
    return x
