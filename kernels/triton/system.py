"""The systems that every step solves: ``K = sigma H + rho P + G' diag(t) G``, P in slot METRIC_X, t in ROW_WEIGHT.

The factor is in scratch, with the sigma, rho and t that it belongs to, and serves as long as these are the same.
"""

import triton
import triton.language as tl

from . import slots
from .factor import factored, solved
from .products import assembled
from .scratch import column_vector, factor_at, number, put_columns, put_number, put_rows, row_vector
from .vectors import some


@triton.jit
def factor(data, sigma, rho, cfg: tl.constexpr):
    """Has the factor of K in scratch, computed only where K has changed; returns whether K is definite."""
    other = (number(data, slots.FACTORED_SIGMA, cfg) != sigma) | (number(data, slots.FACTORED_RHO, cfg) != rho)
    other |= some(row_vector(data, slots.ROW_WEIGHT, cfg) != row_vector(data, slots.FACTORED_WEIGHT, cfg))
    if other | (number(data, slots.IS_DEFINITE, cfg) == 0):
        put_number(data, slots.FACTORED_SIGMA, sigma, cfg)
        put_number(data, slots.FACTORED_RHO, rho, cfg)
        put_rows(data, slots.FACTORED_WEIGHT, row_vector(data, slots.ROW_WEIGHT, cfg), cfg)
        factor_anew(data, cfg)
    return number(data, slots.IS_DEFINITE, cfg) != 0


@triton.jit(noinline=True)
def factor_anew(data, cfg: tl.constexpr):
    """Writes the factor of K and its scale, and whether K is definite."""
    tl.debug_barrier()
    sigma, rho = number(data, slots.FACTORED_SIGMA, cfg), number(data, slots.FACTORED_RHO, cfg)
    K = assembled(data, sigma, rho * column_vector(data, slots.METRIC_X, cfg), cfg)
    K, scale, positive = factored(K, data.n, cfg.N)
    tl.store(factor_at(data, cfg), K)
    put_columns(data, slots.FACTOR_SCALE, scale, cfg)
    put_number(data, slots.IS_DEFINITE, positive.to(tl.float64), cfg)


@triton.jit(noinline=True)
def apply_factor(data, cfg: tl.constexpr):
    """Writes ``K^-1 y`` for y in slot SOLUTION there."""
    tl.debug_barrier()
    K, scale = tl.load(factor_at(data, cfg)), column_vector(data, slots.FACTOR_SCALE, cfg)
    put_columns(data, slots.SOLUTION, solved(K, scale, column_vector(data, slots.SOLUTION, cfg)), cfg)


@triton.jit
def solution(data, r, cfg: tl.constexpr):
    """``K^-1 r``, after :func:`factor`: [N]."""
    put_columns(data, slots.SOLUTION, r, cfg)
    apply_factor(data, cfg)
    return column_vector(data, slots.SOLUTION, cfg)
