"""One problem as its program sees it: where its arrays are, its sizes, and the vectors it keeps in scratch.

Vectors of rows are [M] in registers and [m] in memory, vectors of columns [N] and [n]; N and M are powers of two.
"""

from typing import Any, NamedTuple

import triton
import triton.language as tl

from ..interface import Status as _Status
from ..reference import state as _state
from .products import get

AS_POSED = tl.constexpr(_state.AS_POSED)
SHIFT = tl.constexpr(_state.SHIFT)
SHIFTED = tl.constexpr(_state.SHIFTED)
RUNNING = tl.constexpr(_state.RUNNING)
SOLVED = tl.constexpr(int(_Status.SOLVED))
SOLVED_CLOSEST_FEASIBLE = tl.constexpr(int(_Status.SOLVED_CLOSEST_FEASIBLE))
MAX_ITERATIONS = tl.constexpr(int(_Status.MAX_ITERATIONS))
INFEASIBLE = tl.constexpr(int(_Status.INFEASIBLE))
UNBOUNDED = tl.constexpr(int(_Status.UNBOUNDED))
NUMERICAL_ERROR = tl.constexpr(int(_Status.NUMERICAL_ERROR))
INF = tl.constexpr(float("inf"))


class Config(NamedTuple):
    """What a variant of a kernel is compiled for."""

    n: int
    N: int  # n rounded up to a power of two
    M: int  # the same of the rows
    chunk: int  # rows of a matrix read at once
    method: int  # of factor.py
    has_h: bool
    bounded: bool
    eps_abs: float
    eps_rel: float
    mu_eq: float
    mu_in: float
    rho: float
    closest_feasible: bool


class Data(NamedTuple):
    """Pointers to the arrays of one problem, and its scalars."""

    H: Any  # [n, n]
    A: Any  # [n_eq, n]
    C: Any  # [n_in, n]
    g: Any  # [n]
    D: Any  # [n] equilibration of the columns
    E: Any  # [m] and of the rows
    lo: Any  # [m]
    hi: Any  # [m]
    w: Any  # [m]
    hard: Any  # [m] int8
    n: Any  # at run time, as a known trip count would have the compiler unroll loops and spill
    n_eq: Any
    n_in: Any
    m: Any
    c: Any  # scale of the cost
    shift_unit: Any  # the weight in phase SHIFT of a row with w = 1
    # in scratch
    x: Any  # [n] and all up to Hdx
    Hx: Any
    x_k: Any
    Hx_k: Any
    Hdx: Any
    z: Any  # [m] and all below
    s: Any
    Gx: Any
    z_k: Any
    Gx_k: Any
    v: Any
    t: Any
    u: Any


VECTORS_N = tl.constexpr(5)  # in scratch
VECTORS_M = tl.constexpr(8)


class State(NamedTuple):
    """The scalars that a problem carries from one Newton step to the next: as those of the reference's State."""

    phase: Any
    status: Any
    steps: Any
    entered: Any
    extra: Any
    mu_eq: Any
    mu_in: Any
    rho: Any
    eta_out: Any
    eta_in: Any
    primal_k: Any
    mu_tenth: Any  # mu_in^0.1
    mu_nine_tenths: Any  # mu_in^0.9


@triton.jit
def largest(v):
    """``max |v_i|``."""
    return tl.max(tl.abs(v), axis=0)


@triton.jit
def some(condition):
    """Whether it holds for any entry."""
    return tl.max(condition.to(tl.int32), axis=0) > 0


@triton.jit
def clamped(v, lo, hi):
    """``clamp(v, lo, hi)``."""
    return tl.minimum(tl.maximum(v, lo), hi)


@triton.jit
def column_vector(pointer, cfg: tl.constexpr):
    """A vector of columns: [N], zero beyond n."""
    return get(pointer, cfg.n, 0.0, cfg.N)


@triton.jit
def row_vector(pointer, data, cfg: tl.constexpr):
    """A vector of rows: [M], zero beyond m."""
    return get(pointer, data.m, 0.0, cfg.M)


@triton.jit
def column_scale(data, cfg: tl.constexpr):
    """D: [N], 1 beyond n."""
    return get(data.D, cfg.n, 1.0, cfg.N)


@triton.jit
def row_scale(data, cfg: tl.constexpr):
    """E: [M], 1 beyond m."""
    return get(data.E, data.m, 1.0, cfg.M)


@triton.jit
def sides(data, cfg: tl.constexpr):
    """The sides after the shift s: [M], [M], infinite beyond m. A row that is shifted becomes an equality."""
    lo, hi = get(data.lo, data.m, -INF, cfg.M), get(data.hi, data.m, INF, cfg.M)
    s = row_vector(data.s, data, cfg)
    return tl.where(s > 0, hi, lo) + s, tl.where(s < 0, lo, hi) + s


@triton.jit
def may_shift(data, cfg: tl.constexpr):
    """Whether a row is not hard: [M]."""
    return row_vector(data.hard, data, cfg) == 0


@triton.jit
def omega(data, st, cfg: tl.constexpr):
    """The weight of each row's violation, [M]: ``E^2 / (c mu)``, in phase SHIFT that of its shift, if it may shift."""
    lo, hi = get(data.lo, data.m, -INF, cfg.M), get(data.hi, data.m, INF, cfg.M)
    equality = (lo == hi) | (row_vector(data.s, data, cfg) != 0)
    E, w = row_scale(data, cfg), get(data.w, data.m, 1.0, cfg.M)
    weight = E * E / (data.c * tl.where(equality, st.mu_eq, st.mu_in))
    searching = tl.where(st.phase == SHIFT, data.shift_unit * w, weight)
    return tl.where(may_shift(data, cfg), searching, weight)


@triton.jit
def prox(data, st, cfg: tl.constexpr):
    """The weight of each entry of x - x_k, [N]: ``rho / (c D^2)``."""
    D = column_scale(data, cfg)
    return st.rho / (data.c * D * D)


@triton.jit
def cost_gradient(data, st, cfg: tl.constexpr):
    """``sigma (H x + g)``: [N]."""
    gradient = column_vector(data.Hx, cfg) + column_vector(data.g, cfg)
    return tl.where(st.phase == SHIFT, 0.0, gradient)
