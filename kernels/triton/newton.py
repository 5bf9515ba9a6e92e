"""The inner loop of one problem: a semi-smooth Newton step with an exact line search, as in the reference's newton.py.

(sigma H + P + G_J' Omega G_J) dx = -grad phi
"""

import triton
import triton.language as tl

from ..reference import newton as _newton
from .problem import (
    DX,
    GX,
    HDX,
    HX,
    INF,
    OMEGA,
    PROX,
    X_K,
    Z_K,
    D,
    E,
    State,
    T,
    U,
    V,
    X,
    Z,
    clamped,
    column_vector,
    cost_gradient,
    curved,
    largest,
    put_columns,
    put_rows,
    row_vector,
    sides,
    some,
)
from .products import columns_of, products_at_x
from .system import factor, solution

TRIALS = tl.constexpr(_newton.LINE_SEARCH_TRIALS)
ACCURACY = tl.constexpr(_newton.LINE_SEARCH_ACCURACY)
RHO_GROWTH = tl.constexpr(_newton.RHO_GROWTH)
ROUNDING = tl.constexpr(_newton.ROUNDING)


@triton.jit
def line_search(slope, curvature, v, w, lo, hi, weight):
    """The root alpha > 0 of ``slope + alpha curvature + sum_i weight_i w_i d_i(v + alpha w)``, vectors [M].

    It increases and is piecewise linear: bracketed Newton.
    """
    alpha, left, right = slope * 0 + 1.0, slope * 0, slope * 0 + INF
    weighted = weight * w
    moved = alpha > 0
    trial = 0
    while moved & (trial < TRIALS):
        t = v + alpha * w
        d = t - clamped(t, lo, hi)
        value = slope + alpha * curvature + tl.sum(weighted * d, axis=0)
        rises = value < 0
        left, right = tl.where(rises, alpha, left), tl.where(rises, right, alpha)
        newton = alpha - value / (curvature + tl.sum(tl.where(d != 0, weighted * w, 0.0), axis=0))
        inside = (newton >= left) & (newton <= right)
        following = tl.where(inside, newton, 0.5 * (left + right))
        moved = tl.abs(following - alpha) > alpha * ACCURACY
        alpha = following
        trial += 1
    return alpha


@triton.jit
def line_search_kernel(slope_ptr, curvature_ptr, v_ptr, w_ptr, lo_ptr, hi_ptr, weight_ptr, alpha_ptr, M: tl.constexpr):
    """The line search alone, one program for each row of [B, M]."""
    b = tl.program_id(0).to(tl.int64)
    at = b * M + tl.arange(0, M)
    v, w, lo, hi = tl.load(v_ptr + at), tl.load(w_ptr + at), tl.load(lo_ptr + at), tl.load(hi_ptr + at)
    slope, curvature, weight = tl.load(slope_ptr + b), tl.load(curvature_ptr + b), tl.load(weight_ptr + at)
    tl.store(alpha_ptr + b, line_search(slope, curvature, v, w, lo, hi, weight))


@triton.jit
def direction(data, st, cfg: tl.constexpr):
    """The step [N] and whether there is none; writes v = Gx + z_k / omega, t the active weights and u = omega d(x)."""
    weight = row_vector(data, OMEGA, cfg)
    lo, hi = sides(data, cfg)
    v = row_vector(data, GX, cfg) + row_vector(data, Z_K, cfg) / weight
    put_rows(data, V, v, cfg)
    put_rows(data, T, tl.where((v >= hi) | (v <= lo), weight, 0.0), cfg)
    put_rows(data, U, weight * (v - clamped(v, lo, hi)), cfg)
    definite = factor(data, tl.where(curved(st), 0.0 * st.rho + 1.0, 0.0 * st.rho), st.rho, cfg)
    P = st.rho * column_vector(data, PROX, cfg)
    pull = cost_gradient(data, st, cfg) + P * (column_vector(data, X, cfg) - column_vector(data, X_K, cfg))
    dx = solution(data, -(pull + columns_of(data, U, cfg)), cfg)
    failed = (definite == 0) | some(dx - dx != 0)
    return tl.where(failed, 0.0, dx), failed


@triton.jit
def full_step(z, v, up, down, lo, hi):
    """The multipliers [M] after a full step, and whether the active set is the right one there.

    The sign of the multiplier tells whether an active row stays so: see the reference's _full_step.
    """
    stays = tl.where(up, (z >= 0) | down, tl.where(down, z <= 0, (v <= hi) & (v >= lo)))
    return tl.where(up | down, z, 0.0), some(stays == 0) == 0


@triton.jit(noinline=True)
def newton_step(data, st, cfg: tl.constexpr):
    """One step, in scratch; where the factorization fails, rho grows and x stays."""
    dx, failed = direction(data, st, cfg)
    x, P = column_vector(data, X, cfg), st.rho * column_vector(data, PROX, cfg)
    pull = cost_gradient(data, st, cfg) + P * (x - column_vector(data, X_K, cfg))
    slope = tl.sum(dx * pull, axis=0)
    put_columns(data, DX, dx, cfg)
    products_at_x(data, cfg)
    Hdx = column_vector(data, HDX, cfg)
    curvature = tl.where(curved(st), tl.sum(dx * Hdx, axis=0), 0.0) + tl.sum(dx * P * dx, axis=0)

    weight = row_vector(data, OMEGA, cfg)
    lo, hi = sides(data, cfg)
    v, Gdx = row_vector(data, V, cfg), row_vector(data, U, cfg)
    slop = largest(x / column_vector(data, D, cfg)) * ROUNDING / row_vector(data, E, cfg)
    full = weight * (v - clamped(v, lo, hi)) + weight * Gdx
    z, same = full_step(full, v + Gdx, v >= hi, v <= lo, lo - slop, hi + slop)
    alpha = slope * 0 + 1.0
    if (same == 0) & (failed == 0):
        alpha = line_search(slope, curvature, v, Gdx, lo, hi, weight)
        v += alpha * Gdx
        z = weight * (v - clamped(v, lo, hi))
    z = tl.where(failed, row_vector(data, Z, cfg), z)

    put_columns(data, X, x + alpha * dx, cfg)
    put_columns(data, HX, column_vector(data, HX, cfg) + alpha * Hdx, cfg)
    put_rows(data, GX, row_vector(data, GX, cfg) + alpha * Gdx, cfg)
    put_rows(data, Z, z, cfg)
    return State(st.phase, st.status, st.steps + 1, tl.where(failed, st.rho * RHO_GROWTH, st.rho))
