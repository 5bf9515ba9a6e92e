"""The first iterate of one problem, and all that is written before it."""

import triton
import triton.language as tl

from .outer import entered
from .problem import (
    DEFINITE,
    DX,
    ETA_IN,
    EXTRA,
    FIRST_RHO,
    G_POSED,
    HARD,
    HDX,
    HI,
    HIGH,
    INF,
    LO,
    LOW,
    PRIMAL_K,
    RUNNING,
    G,
    State,
    U,
    W,
    clear,
    column_vector,
    count_rows,
    get,
    number,
    put_columns,
    put_number,
    put_rows,
    row_vector,
    some,
)
from .products import products_at_x


@triton.jit
def load_problem(data, g_ptr, lo_ptr, hi_ptr, w_ptr, hard_ptr, cfg: tl.constexpr):
    """Writes the vectors of the problem to scratch, and zeros elsewhere."""
    m = count_rows(data, cfg)
    clear(data, cfg)
    put_number(data, DEFINITE, 0.0, cfg)
    put_columns(data, G_POSED, get(g_ptr, cfg.n, 0.0, cfg.N), cfg)
    put_rows(data, LO, get(lo_ptr, m, -INF, cfg.M), cfg)
    put_rows(data, HI, get(hi_ptr, m, INF, cfg.M), cfg)
    put_rows(data, W, get(w_ptr, m, 1.0, cfg.M), cfg)
    put_rows(data, HARD, get(hard_ptr, m, 0, cfg.M).to(tl.float64), cfg)
    as_posed(data, cfg)


@triton.jit
def as_posed(data, cfg: tl.constexpr):
    """The cost and the sides are those that are posed."""
    put_columns(data, G, column_vector(data, G_POSED, cfg), cfg)
    put_rows(data, LOW, row_vector(data, LO, cfg), cfg)
    put_rows(data, HIGH, row_vector(data, HI, cfg), cfg)


@triton.jit
def begin_at_x(data, cfg: tl.constexpr):
    """Writes the products at x, and those with dx = 0: NaN where a matrix is not finite."""
    put_columns(data, DX, 0.0 * column_vector(data, DX, cfg), cfg)
    products_at_x(data, cfg)


@triton.jit
def usable(data, cfg: tl.constexpr):
    """Whether all numbers are finite, sides that are absent (lo = -inf, hi = inf) aside; after :func:`begin_at_x`."""
    g, low, high = column_vector(data, G, cfg), row_vector(data, LOW, cfg), row_vector(data, HIGH, cfg)
    matrices = some(row_vector(data, U, cfg) != 0) | some(column_vector(data, HDX, cfg) != 0)
    sides = some((low - low != 0) & (low != -INF)) | some((high - high != 0) & (high != INF))
    return (matrices | some(g - g != 0) | sides) == 0


@triton.jit
def first_state(data, phase, cfg: tl.constexpr):
    """The state at the beginning, in any phase (int32)."""
    put_number(data, PRIMAL_K, INF, cfg)
    put_number(data, EXTRA, 0.0, cfg)
    st = entered(data, State(phase, phase * 0 + RUNNING, phase * 0, number(data, FIRST_RHO, cfg)), phase, cfg)
    put_number(data, ETA_IN, 1.0, cfg)
    return st
