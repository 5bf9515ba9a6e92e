"""The adjoint kernel: one program finds the adjoint vectors of one problem, as the reference's adjoint.py does.

A feasible problem takes one factorization, an infeasible one three (and a fourth where there are hard rows). Every
solve is refined with residuals taken with H and G.
"""

from typing import Any, NamedTuple

import triton
import triton.language as tl

from ..reference.adjoint import ACCURACY as _ACCURACY
from ..reference.adjoint import MU as _MU
from ..reference.adjoint import PASSES as _PASSES
from ..reference.adjoint import RHO as _RHO
from .least_squares import find_shifted_rows, fit
from .problem import (
    BETA,
    C_SCALE,
    DX,
    EPS_ABS,
    FITTED,
    GP,
    HIGH,
    IN_W,
    LOW,
    S_W,
    TARGET,
    UNIT,
    D,
    E,
    Q,
    R,
    S,
    T,
    U,
    V,
    W,
    X,
    Z,
    at_problem,
    column_vector,
    columns_at,
    count_rows,
    data_of,
    get,
    largest,
    number,
    put,
    put_columns,
    put_number,
    put_rows,
    row_vector,
    some,
)
from .products import columns_of, columns_product, row_product
from .scaling import measure_scaling
from .start import load_problem
from .system import factor, solution

MU, RHO, PASSES, ACCURACY = tl.constexpr(_MU), tl.constexpr(_RHO), tl.constexpr(_PASSES), tl.constexpr(_ACCURACY)


class Cotangents(NamedTuple):
    """Pointers to those of one problem's answer."""

    x: Any  # [n]
    z: Any  # [m]
    s: Any  # [m]


class Result(NamedTuple):
    """Pointers to the adjoint vectors of one problem."""

    b_x: Any  # [n]
    p: Any  # [m]
    z: Any  # [m]
    ws: Any  # [m]
    b_s: Any  # [n]
    q_z: Any  # [m]
    b_z: Any  # [n]


@triton.jit
def damped_factor(data, cfg: tl.constexpr):
    """The factor of ``H + rho P + G'diag(t)G``, with a larger rho where that is not definite."""
    one = 0.0 * number(data, C_SCALE, cfg) + 1.0
    rho, definite = one * RHO, one < 0
    while (definite == 0) & (rho < 10):  # at first it may be less than a rounding error of the heaviest rows
        definite = factor(data, one, rho, cfg)
        rho *= 100


@triton.jit(noinline=True)
def saddle_point(data, cfg: tl.constexpr):
    """Solves ``H b + G_S'q = r, G_S b = target`` on the rows of S = W + K; r, target, b and q in R, TARGET, X and Q.

    A proximal method of multipliers with one factor; the last step, taken back once for each pass, is the part along
    the null space of a singular system. The rows of S are those with weights in slot T.
    """
    c, r = number(data, C_SCALE, cfg), column_vector(data, R, cfg)
    put_columns(data, X, 0.0 * r, cfg)
    put_rows(data, Q, 0.0 * row_vector(data, T, cfg), cfg)
    put_rows(data, V, -row_vector(data, TARGET, cfg), cfg)
    damped_factor(data, cfg)
    step, q_step = 0.0 * r, 0.0 * row_vector(data, T, cfg)
    moving, passes = c > 0, 0
    while moving & (passes < PASSES):
        weight, v = row_vector(data, T, cfg), row_vector(data, V, cfg)
        put_rows(data, U, row_vector(data, Q, cfg) + weight * v, cfg)
        residual = r - columns_of(data, U, cfg)
        if cfg.has_h:
            residual -= columns_product(data.H, data.n, columns_at(data, X, cfg), cfg)  # H is symmetric
        step = solution(data, residual, cfg)
        put_columns(data, DX, step, cfg)
        row_product(data, DX, GP, cfg)
        v += tl.where(weight > 0, row_vector(data, GP, cfg), 0.0)
        q_step = weight * v
        b, q = column_vector(data, X, cfg) + step, row_vector(data, Q, cfg) + q_step
        put_rows(data, V, v, cfg)
        put_columns(data, X, b, cfg)
        put_rows(data, Q, q, cfg)
        columns, rows = column_vector(data, D, cfg), row_vector(data, E, cfg)
        size = largest(b / columns) + largest(c * q / rows)
        moving = largest(step / columns) + largest(c * q_step / rows) > size * ACCURACY
        passes += 1
    put_columns(data, X, column_vector(data, X, cfg) - passes * step, cfg)
    put_rows(data, Q, row_vector(data, Q, cfg) - passes * q_step, cfg)


@triton.jit
def set_weights(data, in_W, in_K, cfg: tl.constexpr):
    """Writes the weights of the rows of W, which are those of their shifts, and of K to slot T."""
    scale, c = row_vector(data, E, cfg), number(data, C_SCALE, cfg)
    shifted = row_vector(data, W, cfg) * number(data, UNIT, cfg)
    weight = tl.where(in_W, shifted, tl.where(in_K, scale * scale / c, 0.0))
    put_rows(data, T, weight * (1 / MU), cfg)


@triton.jit
def cleared(data, bar, result, cfg: tl.constexpr):
    """Writes zeros to the result; returns whether some cotangent is not zero."""
    m = count_rows(data, cfg)
    x, z, s = get(bar.x, cfg.n, 0.0, cfg.N), get(bar.z, m, 0.0, cfg.M), get(bar.s, m, 0.0, cfg.M)
    put(result.b_x, 0.0 * x, cfg.n, cfg.N)
    put(result.p, 0.0 * z, m, cfg.M)
    put(result.z, 0.0 * z, m, cfg.M)
    put(result.ws, 0.0 * z, m, cfg.M)
    put(result.b_s, 0.0 * x, cfg.n, cfg.N)
    put(result.q_z, 0.0 * z, m, cfg.M)
    put(result.b_z, 0.0 * x, cfg.n, cfg.N)
    return some(x != 0) | some(z != 0) | some(s != 0)


@triton.jit
def settle_multipliers(data, infeasible, bar, result, cfg: tl.constexpr):
    """Writes z and w s and, of an infeasible problem, b_z and q_z; FITTED gets the part of z's cotangent in W's range.

    The multipliers of W are those of least norm, ``w W b`` with b fitted to ``W b = z / w``.
    """
    m = count_rows(data, cfg)
    in_W, w, z = row_vector(data, IN_W, cfg) != 0, row_vector(data, W, cfg), row_vector(data, Z, cfg)
    put(result.ws, w * row_vector(data, S_W, cfg), m, cfg.M)
    if infeasible:
        put_rows(data, TARGET, z / w, cfg)
        fit(data, cfg)
        z = tl.where(in_W, w * row_vector(data, FITTED, cfg), z)
        put(result.b_z, column_vector(data, BETA, cfg), cfg.n, cfg.N)
        z_ = get(bar.z, m, 0.0, cfg.M)
        put_rows(data, TARGET, z_, cfg)
        fit(data, cfg)
        put(result.q_z, tl.where(in_W, w * (z_ - row_vector(data, FITTED, cfg)), 0.0), m, cfg.M)
    put(result.z, z, m, cfg.M)


@triton.jit
def pull_back(data, bar, result, cfg: tl.constexpr):
    """Writes b_x and p, from the saddle point in X and Q of the cotangents, those of z by way of FITTED."""
    m = count_rows(data, cfg)
    in_W, equality = row_vector(data, IN_W, cfg) != 0, row_vector(data, LOW, cfg) == row_vector(data, HIGH, cfg)
    in_K = (in_W == 0) & ((row_vector(data, Z, cfg) != 0) | equality)
    z_ = tl.where(in_K, get(bar.z, m, 0.0, cfg.M), 0.0)
    put_rows(data, TARGET, tl.where(in_W, row_vector(data, FITTED, cfg), z_), cfg)
    set_weights(data, in_W, in_K, cfg)
    put_rows(data, U, tl.where(in_W, get(bar.s, m, 0.0, cfg.M), 0.0), cfg)
    put_columns(data, R, get(bar.x, cfg.n, 0.0, cfg.N) + columns_of(data, U, cfg), cfg)
    saddle_point(data, cfg)
    s_ = tl.where(row_vector(data, IN_W, cfg) != 0, get(bar.s, m, 0.0, cfg.M), 0.0)
    put(result.b_x, column_vector(data, X, cfg), cfg.n, cfg.N)
    put(result.p, row_vector(data, Q, cfg) - s_, m, cfg.M)


@triton.jit(do_not_specialize=["batched", "order", "n_eq", "n_in", "equilibrate"])
def adjoint_kernel(
    H_ptr,  # [B|1, n, n]
    A_ptr,  # [B|1, n_eq, n]
    C_ptr,  # [B|1, n_in, n]
    g_ptr,  # [B|1, n]
    lo_ptr,  # [B|1, m]
    hi_ptr,  # [B|1, m]
    w_ptr,  # [m]
    hard_ptr,  # [m] bool
    x_ptr,  # [B, n] the answer
    z_ptr,  # [B, m]
    s_ptr,  # [B, m]
    x__ptr,  # [B, n] cotangents
    z__ptr,  # [B, m]
    s__ptr,  # [B, m]
    scratch_ptr,  # [B, scratch_size(cfg)]
    b_x_ptr,  # [B, n]: outputs from here on
    p_ptr,  # [B, m]
    multipliers_ptr,  # [B, m]
    ws_ptr,  # [B, m]
    b_s_ptr,  # [B, n]
    q_z_ptr,  # [B, m]
    b_z_ptr,  # [B, n]
    batched,  # bit k: whether array k of the first six has a batch
    order,  # n
    n_eq,
    n_in,
    equilibrate,  # 1 or 0
    eps_abs: tl.float64,
    cfg: tl.constexpr,
):
    """The adjoint vectors of problem ``program_id(0)``; zeros where its cotangents are."""
    b = tl.program_id(0).to(tl.int64)
    n: tl.constexpr = cfg.n
    data = data_of(H_ptr, A_ptr, C_ptr, scratch_ptr, b, batched, order, n_eq, n_in, cfg)
    m = count_rows(data, cfg)
    of_x, of_rows = b * n, b * m
    bar = Cotangents(x__ptr + of_x, z__ptr + of_rows, s__ptr + of_rows)
    result = Result(
        b_x_ptr + of_x,
        p_ptr + of_rows,
        multipliers_ptr + of_rows,
        ws_ptr + of_rows,
        b_s_ptr + of_x,
        q_z_ptr + of_rows,
        b_z_ptr + of_x,
    )
    if cleared(data, bar, result, cfg):
        g = at_problem(g_ptr, b, batched, 3, n)
        lo, hi = at_problem(lo_ptr, b, batched, 4, m), at_problem(hi_ptr, b, batched, 5, m)
        load_problem(data, g, lo, hi, w_ptr, hard_ptr, cfg)
        put_number(data, EPS_ABS, eps_abs, cfg)
        put_columns(data, X, get(x_ptr + of_x, n, 0.0, cfg.N), cfg)
        put_rows(data, Z, get(z_ptr + of_rows, m, 0.0, cfg.M), cfg)
        put_rows(data, S, get(s_ptr + of_rows, m, 0.0, cfg.M), cfg)
        measure_scaling(data, equilibrate, cfg)
        infeasible = find_shifted_rows(data, cfg)
        settle_multipliers(data, infeasible, bar, result, cfg)
        pull_back(data, bar, result, cfg)
        if infeasible:
            put_rows(data, TARGET, row_vector(data, Q, cfg) / row_vector(data, W, cfg), cfg)
            fit(data, cfg)
            put(result.b_s, column_vector(data, BETA, cfg), n, cfg.N)
