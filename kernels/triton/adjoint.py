"""The adjoint kernel: one program finds the adjoint vectors of one problem, as the reference's adjoint.py does.

A feasible problem takes one factorization, an infeasible one three: the least-squares problem in its shifted rows W is
factored again after the saddle point, as only one tile stays in registers. Every solve is refined with residuals taken
with H and G.
"""

from typing import Any, NamedTuple

import triton
import triton.language as tl

from ..reference import least_squares as _least_squares
from ..reference.adjoint import ACCURACY as _ACCURACY
from ..reference.adjoint import MU as _MU
from ..reference.adjoint import PASSES as _PASSES
from ..reference.adjoint import RHO as _RHO
from .factor import factored, solved
from .problem import column_vector, largest, some
from .products import all_columns_product, all_rows_product, assembled, columns_product, get, put

MU = tl.constexpr(_MU)
RHO = tl.constexpr(_RHO)
PASSES = tl.constexpr(_PASSES)
ACCURACY = tl.constexpr(_ACCURACY)
FIT_DAMPING = tl.constexpr(_least_squares.DAMPING)
FIT_PASSES = tl.constexpr(_least_squares.PASSES)
FIT_ACCURACY = tl.constexpr(_least_squares.ACCURACY)
ACTIVE, SHIFTED = tl.constexpr(1), tl.constexpr(2)  # kinds of rows: those of K and of W
VECTORS = tl.constexpr(4)  # of rows, in scratch, and one of columns


class System(NamedTuple):
    """Pointers to the arrays of one problem, and its scalars."""

    H: Any  # [n, n]
    A: Any  # [n_eq, n]
    C: Any  # [n_in, n]
    n: Any  # at run time, see problem.py
    n_eq: Any
    n_in: Any
    m: Any
    D: Any  # [N]
    E: Any  # [M]
    c: Any
    unit: Any
    w: Any  # [M] of the shifts
    kind: Any  # [M] 0, ACTIVE or SHIFTED
    # in scratch
    b: Any  # [n]
    t: Any  # [m] and all below
    q: Any
    target: Any
    weight: Any


@triton.jit
def rows_of(p, cfg: tl.constexpr, pointer):
    """A vector of rows: [M], zero beyond m."""
    return get(pointer, p.m, 0.0, cfg.M)


@triton.jit
def times(p, cfg: tl.constexpr, b):
    """``G b``: [N] -> [M], by way of the slot t."""
    all_rows_product(p.A, p.C, p.n_eq, p.n_in, b, b, p.t, p.t, cfg.n, cfg.N, cfg.bounded, cfg.chunk)
    return rows_of(p, cfg, p.t)


@triton.jit
def back_times(p, cfg: tl.constexpr, z):
    """``G'z``: [M] -> [N], by way of the slot t."""
    put(p.t, z, p.m, cfg.M)
    return all_columns_product(p.A, p.C, p.n_eq, p.n_in, p.t, cfg.n, cfg.N, cfg.bounded, cfg.chunk)


@triton.jit
def factor_of(p, cfg: tl.constexpr, sigma, P, weight, HAS_H: tl.constexpr):
    """The factor of ``sigma H + P + G' diag(weight) G`` and its scale."""
    put(p.weight, weight, p.m, cfg.M)
    K = assembled(p.H, p.A, p.C, p.n_eq, p.n_in, sigma, P, p.weight, cfg.n, cfg.N, HAS_H, cfg.bounded, cfg.chunk)
    K, scale, _y, _positive = factored(K, 0.0 * P, p.n, cfg.N, cfg.method)
    return K, scale


@triton.jit
def shifted_factor(p, cfg: tl.constexpr):
    """The factor of ``W' diag(unit w) W + damping``."""
    weight = tl.where(p.kind == SHIFTED, p.w * p.unit, 0.0)
    return factor_of(p, cfg, p.c, FIT_DAMPING / (p.D * p.D), weight, False)


@triton.jit
def fit(p, cfg: tl.constexpr, K, scale, t):
    """``argmin_b sum w_i (W b - t)_i^2`` for t [M]: b [N], and W b [M]; proximal passes."""
    shifted = p.kind == SHIFTED
    weight = tl.where(shifted, p.w * p.unit, 0.0)
    residual = back_times(p, cfg, weight * t)
    b, Wb = 0.0 * residual, 0.0 * t
    goal = largest(residual) * FIT_ACCURACY
    passes = 0
    while (passes < FIT_PASSES) & (largest(residual) > goal):
        b += solved(K, scale, residual, p.n, cfg.N, cfg.method)
        Wb = tl.where(shifted, times(p, cfg, b), 0.0)
        residual = back_times(p, cfg, weight * (t - Wb))
        passes += 1
    return b, Wb


@triton.jit
def saddle_point(p, cfg: tl.constexpr, r, target):
    """Solves ``H b + G_S'q = r, G_S b = target`` on the rows S of any kind: b [N], q [M].

    A proximal method of multipliers with one factor; the last step, taken back once for each pass, is the part along
    the null space of a singular system.
    """
    inverse = 1.0 / (p.c * MU)
    weight = tl.where(p.kind == SHIFTED, p.w * p.unit, tl.where(p.kind == ACTIVE, p.E * p.E, 0.0)) * inverse
    K, scale = factor_of(p, cfg, 1.0 + 0.0 * p.c, RHO / (p.c * p.D * p.D), weight, cfg.has_h)
    put(p.b, 0.0 * r, cfg.n, cfg.N)
    put(p.q, 0.0 * target, p.m, cfg.M)
    v, passes = -target, 0
    step, q_step = 0.0 * r, 0.0 * target
    moving = inverse > 0
    while moving & (passes < PASSES):
        q, b = rows_of(p, cfg, p.q), column_vector(p.b, cfg)
        residual = r - back_times(p, cfg, q + weight * v)
        if cfg.has_h:
            residual -= columns_product(p.H, p.n, p.b, cfg.n, cfg.N, cfg.chunk)  # H is symmetric
        step = solved(K, scale, residual, p.n, cfg.N, cfg.method)
        v += tl.where(p.kind > 0, times(p, cfg, step), 0.0)
        q_step = weight * v
        b += step
        q += q_step
        put(p.b, b, cfg.n, cfg.N)
        put(p.q, q, p.m, cfg.M)
        size = largest(b / p.D) + largest(p.c * q / p.E)
        moving = largest(step / p.D) + largest(p.c * q_step / p.E) > size * ACCURACY
        passes += 1
    return column_vector(p.b, cfg) - passes * step, rows_of(p, cfg, p.q) - passes * q_step


@triton.jit(do_not_specialize=["batched", "order", "n_eq", "n_in"])
def adjoint_kernel(
    H_ptr,  # [B|1, n, n]
    A_ptr,  # [B|1, n_eq, n]
    C_ptr,  # [B|1, n_in, n]
    D_ptr,  # [B|1, n]
    E_ptr,  # [B|1, m]
    c_ptr,  # [B|1]
    unit_ptr,  # [B|1]
    w_ptr,  # [B|1, m]
    kind_ptr,  # [B, m] int8
    z_ptr,  # [B, m] multipliers
    x__ptr,  # [B, n] cotangents
    z__ptr,  # [B, m]
    s__ptr,  # [B, m]
    wanted_ptr,  # [B] int32, 0 for a problem whose outputs stay as they are
    scratch_ptr,  # [B, N + VECTORS M]
    b_x_ptr,  # [B, n]: outputs from here on
    p_ptr,  # [B, m]
    multipliers_ptr,  # [B, m]
    b_s_ptr,  # [B, n]
    q_z_ptr,  # [B, m]
    b_z_ptr,  # [B, n]
    batched,  # bit k: whether array k of the first eight has a batch
    order,  # n
    n_eq,
    n_in,
    cfg: tl.constexpr,
):
    """The adjoint vectors of problem ``program_id(0)``; the outputs of feasible ones for W stay zero."""
    b = tl.program_id(0).to(tl.int64)
    if tl.load(wanted_ptr + b) != 0:
        n: tl.constexpr = cfg.n
        m = n_eq + n_in + (n if cfg.bounded else 0)
        slot = scratch_ptr + b * (cfg.N + VECTORS * cfg.M)
        p = System(
            H_ptr + b * (batched & 1) * (n * n),
            A_ptr + b * ((batched >> 1) & 1) * (n_eq * n),
            C_ptr + b * ((batched >> 2) & 1) * (n_in * n),
            order,
            n_eq,
            n_in,
            m,
            get(D_ptr + b * ((batched >> 3) & 1) * n, n, 1.0, cfg.N),
            get(E_ptr + b * ((batched >> 4) & 1) * m, m, 1.0, cfg.M),
            tl.load(c_ptr + b * ((batched >> 5) & 1)),
            tl.load(unit_ptr + b * ((batched >> 6) & 1)),
            get(w_ptr + b * ((batched >> 7) & 1) * m, m, 1.0, cfg.M),
            get(kind_ptr + b * m, m, 0, cfg.M),
            slot,
            slot + cfg.N,
            slot + cfg.N + cfg.M,
            slot + cfg.N + 2 * cfg.M,
            slot + cfg.N + 3 * cfg.M,
        )
        z, z_, s_ = rows_of(p, cfg, z_ptr + b * m), rows_of(p, cfg, z__ptr + b * m), rows_of(p, cfg, s__ptr + b * m)
        put(p.target, tl.where(p.kind == ACTIVE, z_, 0.0), m, cfg.M)
        put(multipliers_ptr + b * m, z, m, cfg.M)
        infeasible = some(p.kind == SHIFTED)
        if infeasible:
            K, scale = shifted_factor(p, cfg)
            beta, Wbeta = fit(p, cfg, K, scale, z / p.w)
            _eta, Weta = fit(p, cfg, K, scale, z_)
            put(b_z_ptr + b * n, beta, n, cfg.N)
            put(multipliers_ptr + b * m, tl.where(p.kind == SHIFTED, p.w * Wbeta, z), m, cfg.M)
            put(q_z_ptr + b * m, tl.where(p.kind == SHIFTED, p.w * (z_ - Weta), 0.0), m, cfg.M)
            put(p.target, tl.where(p.kind == SHIFTED, Weta, rows_of(p, cfg, p.target)), m, cfg.M)
        s_ = tl.where(p.kind == SHIFTED, s_, 0.0)
        r = column_vector(x__ptr + b * n, cfg) + back_times(p, cfg, s_)
        b_x, q = saddle_point(p, cfg, r, rows_of(p, cfg, p.target))
        put(b_x_ptr + b * n, b_x, n, cfg.N)
        put(p_ptr + b * m, q - s_, m, cfg.M)
        if infeasible:
            K, scale = shifted_factor(p, cfg)
            b_s, _Wb_s = fit(p, cfg, K, scale, q / p.w)
            put(b_s_ptr + b * n, b_s, n, cfg.N)
