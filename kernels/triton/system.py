"""The systems that every step solves: ``K = sigma H + rho P + G' diag(t) G``, P in slot PROX, weights t in slot T.

As the reference's factor.py: in double precision by the factor, in mixed precision by conjugate gradients in float64,
which multiply by H and G and have the factor in float32 for their preconditioner. The factor is in scratch, with the
sigma, rho and t that it belongs to, and serves as long as these are the same.
"""

import triton
import triton.language as tl

from ..reference import factor as _factor
from .factor import factored, solved
from .problem import (
    DEFINITE,
    FACTORED,
    GP,
    PROX,
    RHO,
    SCALE,
    SIGMA,
    P,
    T,
    Y,
    column_vector,
    columns_at,
    number,
    put_columns,
    put_number,
    put_rows,
    row_vector,
    some,
    tile_at,
)
from .products import assembled, columns_of, columns_product, row_product

JITTER = tl.constexpr(_factor.JITTER)
STEPS = tl.constexpr(_factor.STEPS)


@triton.jit
def factor(data, sigma, rho, cfg: tl.constexpr):
    """Has the factor of K in scratch, computed only where K has changed; returns whether K is definite."""
    other = (number(data, SIGMA, cfg) != sigma) | (number(data, RHO, cfg) != rho)
    other |= some(row_vector(data, T, cfg) != row_vector(data, FACTORED, cfg))
    if other | (number(data, DEFINITE, cfg) == 0):
        put_number(data, SIGMA, sigma, cfg)
        put_number(data, RHO, rho, cfg)
        put_rows(data, FACTORED, row_vector(data, T, cfg), cfg)
        factor_anew(data, cfg)
    return number(data, DEFINITE, cfg) != 0


@triton.jit(noinline=True)
def factor_anew(data, cfg: tl.constexpr):
    """Writes the factor of K and its scale, and whether K is definite."""
    K = assembled(data, number(data, SIGMA, cfg), number(data, RHO, cfg) * column_vector(data, PROX, cfg), cfg)
    if cfg.mixed:
        index = tl.arange(0, cfg.N)
        K = tl.where(index[:, None] == index[None, :], K * (1 + JITTER), K)
    K, scale, positive = factored(K, data.n, cfg.N, cfg.method)
    tl.store(tile_at(data, cfg), K.to(tl.float64))
    put_columns(data, SCALE, scale.to(tl.float64), cfg)
    put_number(data, DEFINITE, positive.to(tl.float64), cfg)


@triton.jit(noinline=True)
def apply_factor(data, cfg: tl.constexpr):
    """Writes ``K^-1 y`` for y in slot Y of columns there, to the precision of the factor."""
    DTYPE: tl.constexpr = tl.float32 if cfg.mixed else tl.float64
    K, scale = tl.load(tile_at(data, cfg)).to(DTYPE), column_vector(data, SCALE, cfg).to(DTYPE)
    y = solved(K, scale, column_vector(data, Y, cfg).to(DTYPE), data.n, cfg.N, cfg.method)
    put_columns(data, Y, y.to(tl.float64), cfg)


@triton.jit
def by_factor(data, r, cfg: tl.constexpr):
    """``K^-1 r`` to the precision of the factor: [N]."""
    put_columns(data, Y, r, cfg)
    apply_factor(data, cfg)
    return column_vector(data, Y, cfg)


@triton.jit
def times(data, p, cfg: tl.constexpr):
    """``K p`` in double precision: [N]."""
    put_columns(data, P, p, cfg)
    row_product(data, P, GP, cfg)
    put_rows(data, GP, row_vector(data, T, cfg) * row_vector(data, GP, cfg), cfg)
    Kp = number(data, RHO, cfg) * column_vector(data, PROX, cfg) * p + columns_of(data, GP, cfg)
    if cfg.has_h:  # which is symmetric
        Kp += number(data, SIGMA, cfg) * columns_product(data.H, data.n, columns_at(data, P, cfg), cfg)
    return Kp


@triton.jit
def solution(data, r, cfg: tl.constexpr):
    """``K^-1 r`` in double precision, after :func:`factor`: [N]."""
    if cfg.mixed:
        x, p = 0.0 * r, 0.0 * r
        before = tl.sum(p, axis=0)
        for _ in range(0, STEPS):
            y = by_factor(data, r, cfg)
            now = tl.sum(r * y, axis=0)
            p = y + tl.where(before > 0, now / before, 0.0) * p
            Kp = times(data, p, cfg)
            curvature = tl.sum(p * Kp, axis=0)
            alpha = tl.where(curvature > 0, now / curvature, 0.0)
            x += alpha * p
            r -= alpha * Kp
            before = now
    else:
        x = by_factor(data, r, cfg)
    return x
