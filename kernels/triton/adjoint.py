"""The adjoint kernel: one program finds the adjoint vectors of one problem, as the reference's adjoint.py does.

A feasible problem takes one factorization, an infeasible one up to four (and a fifth where there are hard rows): the
least-squares problem in its shifted rows W is factored anew for each target, as only one tile stays in registers. Every
solve is refined with residuals taken with H and G.
"""

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
    COLUMNS,
    DX,
    EPS_ABS,
    FITTED,
    GP,
    HIGH,
    IN_W,
    LOW,
    NUMBERS,
    ROWS,
    S_W,
    TARGET,
    UNIT,
    D,
    Data,
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
    column_vector,
    columns_at,
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
    sigma, rho = 0.0 * c + 1.0, 0.0 * c + RHO
    definite = factor(data, sigma, rho, cfg)
    while (definite == 0) & (rho < 1):  # rho P is less than a rounding error of the heaviest rows
        rho *= 100
        definite = factor(data, sigma, rho, cfg)
    step, q_step = 0.0 * r, 0.0 * row_vector(data, T, cfg)
    moving, passes = sigma > 0, 0
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
    m = n_eq + n_in + (n if cfg.bounded else 0)
    x_, z_, s_ = (
        get(x__ptr + b * n, n, 0.0, cfg.N),
        get(z__ptr + b * m, m, 0.0, cfg.M),
        get(s__ptr + b * m, m, 0.0, cfg.M),
    )
    put(b_x_ptr + b * n, 0.0 * x_, n, cfg.N)
    put(p_ptr + b * m, 0.0 * z_, m, cfg.M)
    put(multipliers_ptr + b * m, 0.0 * z_, m, cfg.M)
    put(ws_ptr + b * m, 0.0 * z_, m, cfg.M)
    put(b_s_ptr + b * n, 0.0 * x_, n, cfg.N)
    put(q_z_ptr + b * m, 0.0 * z_, m, cfg.M)
    put(b_z_ptr + b * n, 0.0 * x_, n, cfg.N)
    if some(x_ != 0) | some(z_ != 0) | some(s_ != 0):
        data = Data(
            H_ptr + b * (batched & 1) * (n * n),
            A_ptr + b * ((batched >> 1) & 1) * (n_eq * n),
            C_ptr + b * ((batched >> 2) & 1) * (n_in * n),
            scratch_ptr + b * (COLUMNS * cfg.N + ROWS * cfg.M + cfg.N * cfg.N + NUMBERS),
            order,
            n_eq,
            n_in,
        )
        g = g_ptr + b * ((batched >> 3) & 1) * n
        lo, hi = lo_ptr + b * ((batched >> 4) & 1) * m, hi_ptr + b * ((batched >> 5) & 1) * m
        load_problem(data, g, lo, hi, w_ptr, hard_ptr, cfg)
        put_number(data, EPS_ABS, eps_abs, cfg)
        put_columns(data, X, get(x_ptr + b * n, n, 0.0, cfg.N), cfg)
        put_rows(data, Z, get(z_ptr + b * m, m, 0.0, cfg.M), cfg)
        put_rows(data, S, get(s_ptr + b * m, m, 0.0, cfg.M), cfg)
        measure_scaling(data, equilibrate, cfg)
        infeasible = find_shifted_rows(data, cfg)
        in_W, w, z = row_vector(data, IN_W, cfg) != 0, row_vector(data, W, cfg), row_vector(data, Z, cfg)
        put(ws_ptr + b * m, w * row_vector(data, S_W, cfg), m, cfg.M)
        if infeasible:
            put_rows(data, TARGET, z / w, cfg)
            fit(data, cfg)
            z = tl.where(in_W, w * row_vector(data, FITTED, cfg), z)
            put(b_z_ptr + b * n, column_vector(data, BETA, cfg), n, cfg.N)
            put_rows(data, TARGET, z_, cfg)
            fit(data, cfg)
            put(q_z_ptr + b * m, tl.where(in_W, w * (z_ - row_vector(data, FITTED, cfg)), 0.0), m, cfg.M)
        put(multipliers_ptr + b * m, z, m, cfg.M)
        in_K = (in_W == 0) & (
            (row_vector(data, Z, cfg) != 0) | (row_vector(data, LOW, cfg) == row_vector(data, HIGH, cfg))
        )
        put_rows(data, TARGET, tl.where(in_W, row_vector(data, FITTED, cfg), tl.where(in_K, z_, 0.0)), cfg)
        set_weights(data, in_W, in_K, cfg)
        s_ = tl.where(in_W, s_, 0.0)
        put_rows(data, U, s_, cfg)
        put_columns(data, R, x_ + columns_of(data, U, cfg), cfg)
        saddle_point(data, cfg)
        q = row_vector(data, Q, cfg)
        put(b_x_ptr + b * n, column_vector(data, X, cfg), n, cfg.N)
        put(p_ptr + b * m, q - s_, m, cfg.M)
        if infeasible:
            put_rows(data, TARGET, q / w, cfg)
            fit(data, cfg)
            put(b_s_ptr + b * n, column_vector(data, BETA, cfg), n, cfg.N)
