"""The inner loop of one problem: a semi-smooth Newton step with an exact line search, as in the reference's newton.py.

(sigma H + P + G_J' Omega G_J) dx = -grad phi
"""

import triton
import triton.language as tl

from ..reference import newton as _newton
from .factor import factored
from .problem import (
    SHIFT,
    State,
    clamped,
    column_scale,
    column_vector,
    cost_gradient,
    largest,
    omega,
    prox,
    row_scale,
    row_vector,
    sides,
    some,
)
from .products import all_columns_product, all_rows_product, assembled, put, rows_product

TRIALS = tl.constexpr(_newton.LINE_SEARCH_TRIALS)
ACCURACY = tl.constexpr(_newton.LINE_SEARCH_ACCURACY)
RHO_GROWTH = tl.constexpr(_newton.RHO_GROWTH)
ROUNDING = tl.constexpr(_newton.ROUNDING)
INF = tl.constexpr(float("inf"))


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
    weight = omega(data, st, cfg)
    lo, hi = sides(data, cfg)
    v = row_vector(data.Gx, data, cfg) + row_vector(data.z_k, data, cfg) / weight
    put(data.v, v, data.m, cfg.M)
    put(data.t, tl.where((v >= hi) | (v <= lo), weight, 0.0), data.m, cfg.M)
    put(data.u, weight * (v - clamped(v, lo, hi)), data.m, cfg.M)
    P = prox(data, st, cfg)
    pushed = all_columns_product(data.A, data.C, data.n_eq, data.n_in, data.u, cfg.n, cfg.N, cfg.bounded, cfg.chunk)
    moved = column_vector(data.x, cfg) - column_vector(data.x_k, cfg)
    gradient = cost_gradient(data, st, cfg) + pushed + P * moved
    sigma = tl.where(st.phase == SHIFT, 0.0 * st.rho, 0.0 * st.rho + 1.0)
    K = assembled(
        data.H, data.A, data.C, data.n_eq, data.n_in, sigma, P, data.t, cfg.n, cfg.N, cfg.has_h, cfg.bounded, cfg.chunk
    )
    K, _scale, dx, positive = factored(K, -gradient, data.n, cfg.N, cfg.method)
    failed = (positive == 0) | some(dx - dx != 0)
    return tl.where(failed, 0.0, dx), failed


@triton.jit
def full_step(z, v, up, down, lo, hi):
    """The multipliers [M] after a full step, and whether the active set is the right one there.

    The sign of the multiplier tells whether an active row stays so: see the reference's _full_step.
    """
    stays = tl.where(up, (z >= 0) | down, tl.where(down, z <= 0, (v <= hi) & (v >= lo)))
    return tl.where(up | down, z, 0.0), some(stays == 0) == 0


@triton.jit
def newton_step(data, st, cfg: tl.constexpr):
    """One step, in scratch; where the factorization fails, rho grows and x stays."""
    dx, failed = direction(data, st, cfg)
    x, P = column_vector(data.x, cfg), prox(data, st, cfg)
    pull = cost_gradient(data, st, cfg) + P * (x - column_vector(data.x_k, cfg))
    slope = tl.sum(dx * pull, axis=0)
    if cfg.has_h:
        rows_product(data.H, data.n, x, dx, data.Hx, data.Hdx, cfg.n, cfg.N, cfg.chunk)
    all_rows_product(data.A, data.C, data.n_eq, data.n_in, x, dx, data.Gx, data.u, cfg.n, cfg.N, cfg.bounded, cfg.chunk)
    Hdx = column_vector(data.Hdx, cfg) if cfg.has_h else 0.0 * x
    curvature = tl.where(st.phase == SHIFT, 0.0, tl.sum(dx * Hdx, axis=0)) + tl.sum(dx * P * dx, axis=0)

    weight = omega(data, st, cfg)
    lo, hi = sides(data, cfg)
    v, Gdx = row_vector(data.v, data, cfg), row_vector(data.u, data, cfg)
    up, down = v >= hi, v <= lo
    slop = largest(x / column_scale(data, cfg)) * ROUNDING / row_scale(data, cfg)
    full = weight * (v - clamped(v, lo, hi)) + weight * Gdx
    z, same = full_step(full, v + Gdx, up, down, lo - slop, hi + slop)
    alpha = slope * 0 + 1.0
    if (same == 0) & (failed == 0):
        alpha = line_search(slope, curvature, v, Gdx, lo, hi, weight)
        v += alpha * Gdx
        z = weight * (v - clamped(v, lo, hi))
    z = tl.where(failed, row_vector(data.z, data, cfg), z)

    put(data.x, x + alpha * dx, cfg.n, cfg.N)
    if cfg.has_h:
        put(data.Hx, column_vector(data.Hx, cfg) + alpha * Hdx, cfg.n, cfg.N)
    put(data.Gx, row_vector(data.Gx, data, cfg) + alpha * Gdx, data.m, cfg.M)
    put(data.z, z, data.m, cfg.M)
    return State(
        st.phase,
        st.status,
        st.steps + 1,
        st.entered,
        st.extra,
        st.mu_eq,
        st.mu_in,
        tl.where(failed, st.rho * RHO_GROWTH, st.rho),
        st.eta_out,
        st.eta_in,
        st.primal_k,
        st.mu_tenth,
        st.mu_nine_tenths,
    )
