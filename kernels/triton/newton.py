"""The inner loop of one problem: a semi-smooth Newton step with an exact line search, as in the reference's newton.py.

(sigma H + P + G_J' Omega G_J) dx = -grad phi, where H has what :func:`~.outer.bend` adds to it
"""

import triton
import triton.language as tl

from .. import numbers
from . import slots
from .problem import State, curved, metric_rows, multipliers, set_omega, sides
from .products import columns_of, columns_product, products_at_x, row_product
from .scratch import column_vector, columns_at, number, put_columns, put_number, put_rows, row_vector
from .system import factor, solution
from .vectors import INF, clamped, largest, some

REFINEMENTS = tl.constexpr(2)  # of a stiff step: with one, an infeasible LP may have steps that do not descend


@triton.jit
def exact_line_search(slope, curvature, v, w, lo, hi, omega):
    """The root alpha > 0 of ``slope + alpha curvature + sum_i omega_i w_i d_i(v + alpha w)``, vectors [M].

    It increases and is piecewise linear: bracketed Newton.
    """
    alpha, left, right = slope * 0 + 1.0, slope * 0, slope * 0 + INF
    weighted = omega * w
    moved = alpha > 0
    trial = 0
    while moved & (trial < numbers.LINE_SEARCH_TRIALS):
        t = v + alpha * w
        d = t - clamped(t, lo, hi)
        value = slope + alpha * curvature + tl.sum(weighted * d, axis=0)
        rises = value < 0
        left, right = tl.where(rises, alpha, left), tl.where(rises, right, alpha)
        newton = alpha - value / (curvature + tl.sum(tl.where(d != 0, weighted * w, 0.0), axis=0))
        inside = (newton >= left) & (newton <= right)
        following = tl.where(inside, newton, 0.5 * (left + right))
        moved = tl.abs(following - alpha) > alpha * numbers.LINE_SEARCH_ACCURACY
        alpha = following
        trial += 1
    return alpha


@triton.jit
def pull_of_x(data, st, cfg: tl.constexpr):
    """The gradient of phi without the rows, ``sigma (H x + g) + P (x - x_k)``, in phase DUAL without H: [N]."""
    Hx = tl.where(curved(st), column_vector(data, slots.HX, cfg), 0.0)
    cost = tl.where(st.phase == numbers.Phase.SHIFT, 0.0, Hx + column_vector(data, slots.COST, cfg))
    P = st.rho * column_vector(data, slots.METRIC_X, cfg)
    return cost + P * (column_vector(data, slots.X, cfg) - column_vector(data, slots.X_K, cfg))


@triton.jit
def see_rows(data, st, cfg: tl.constexpr):
    """Writes ``v = Gx + z_k / omega``, and by which v rows are active: a trial begins with the penalties before."""
    Gx, z_k = row_vector(data, slots.GX, cfg), multipliers(data, st.phase, cfg)
    v = Gx + z_k / row_vector(data, slots.OMEGA, cfg)
    put_rows(data, slots.V, v, cfg)
    put_rows(data, slots.SEEN, v, cfg)
    if number(data, slots.WRONG, cfg) < 0:
        before = metric_rows(data, number(data, slots.MU_EQ_K, cfg), number(data, slots.MU_IN_K, cfg), cfg)
        put_rows(data, slots.SEEN, Gx + z_k / before, cfg)


@triton.jit
def active_rows(data, cfg: tl.constexpr):
    """Which rows are at their upper side or beyond, and which at their lower one: [M], [M]."""
    lo, hi = sides(data, cfg)
    seen = row_vector(data, slots.SEEN, cfg)
    return seen >= hi, seen <= lo


@triton.jit
def excess(data, up, down, cfg: tl.constexpr):
    """``d(x)``, how far v is from the sides of the active rows: [M]."""
    lo, hi = sides(data, cfg)
    v = row_vector(data, slots.V, cfg)
    return tl.where(up, v - hi, tl.where(down, v - lo, 0.0))


@triton.jit
def direction(data, st, cfg: tl.constexpr):
    """The step [N] and whether there is none; writes omega d(x) to slot PULL."""
    see_rows(data, st, cfg)
    omega = row_vector(data, slots.OMEGA, cfg)
    up, down = active_rows(data, cfg)
    put_rows(data, slots.ROW_WEIGHT, tl.where(up | down, omega, 0.0), cfg)
    put_rows(data, slots.PULL, omega * excess(data, up, down, cfg), cfg)
    sigma = tl.where(curved(st), 0.0 * st.rho + 1.0, 0.0 * st.rho)
    definite = factor(data, sigma, st.rho + sigma * number(data, slots.BEND, cfg), cfg)
    pull = pull_of_x(data, st, cfg)
    dx = solution(data, -(pull + columns_of(data, slots.PULL, cfg)), cfg)
    failed = (definite == 0) | some(dx - dx != 0)
    return tl.where(failed, 0.0, dx), failed


@triton.jit
def is_stiff(data, st, cfg: tl.constexpr):
    """Whether the condition of the system is large: its rows weigh as in a trial, or next to nothing but rows is there.

    The factor is an inverse, and its errors along the rows are of the condition.
    """
    mu = tl.minimum(number(data, slots.MU_EQ, cfg), number(data, slots.MU_IN, cfg))
    return (mu / numbers.KNOWN_MU <= 1) | (st.phase == numbers.Phase.SHIFT)


@triton.jit(noinline=True)
def refine(data, st, cfg: tl.constexpr):
    """Solves for what the step in slot DX leaves of its system."""
    tl.debug_barrier()
    row_product(data, slots.DX, slots.GDX, cfg)
    up, down = active_rows(data, cfg)
    pull = row_vector(data, slots.OMEGA, cfg) * excess(data, up, down, cfg)
    put_rows(data, slots.PULL, pull + row_vector(data, slots.ROW_WEIGHT, cfg) * row_vector(data, slots.GDX, cfg), cfg)
    rest = -(pull_of_x(data, st, cfg) + columns_of(data, slots.PULL, cfg))
    sigma = tl.where(curved(st), 0.0 * st.rho + 1.0, 0.0 * st.rho)
    dx, P = column_vector(data, slots.DX, cfg), column_vector(data, slots.METRIC_X, cfg)
    rest -= (st.rho + sigma * number(data, slots.BEND, cfg)) * P * dx
    if cfg.has_h:
        rest -= sigma * columns_product(data.H, data.n, columns_at(data, slots.DX, cfg), cfg)  # H is symmetric
    dx += solution(data, rest, cfg)
    put_columns(data, slots.DX, dx, cfg)


@triton.jit
def full_step(z, v, up, down, lo, hi):
    """The multipliers [M] after a full step, and how many rows are not as active there as they should be.

    The sign of the multiplier tells whether an active row stays so: see the reference's _full_step.
    """
    wrong = tl.where(up, (z < 0) & (down == 0), tl.where(down, z > 0, (v > hi) | (v < lo)))
    return tl.where(up | down, z, 0.0), tl.sum(wrong.to(tl.int32), axis=0)


@triton.jit(noinline=True)
def newton_step(data, st, cfg: tl.constexpr):
    """One step, in scratch; where the factorization fails, x stays and the penalties give way."""
    tl.debug_barrier()
    dx, failed = direction(data, st, cfg)
    put_columns(data, slots.DX, dx, cfg)
    if (failed == 0) & is_stiff(data, st, cfg):
        for _ in range(REFINEMENTS):
            refine(data, st, cfg)
    dx = column_vector(data, slots.DX, cfg)
    slope = tl.sum(dx * pull_of_x(data, st, cfg), axis=0)
    products_at_x(data, cfg)
    bent = number(data, slots.BEND, cfg) * column_vector(data, slots.METRIC_X, cfg)
    Hdx, P = column_vector(data, slots.HDX, cfg) + bent * dx, st.rho * column_vector(data, slots.METRIC_X, cfg)
    curvature = tl.where(curved(st), tl.sum(dx * Hdx, axis=0), 0.0) + tl.sum(dx * P * dx, axis=0)

    omega, x = row_vector(data, slots.OMEGA, cfg), column_vector(data, slots.X, cfg)
    lo, hi = sides(data, cfg)
    v, Gdx = row_vector(data, slots.V, cfg), row_vector(data, slots.GDX, cfg)
    slop = largest(x / column_vector(data, slots.D, cfg)) * numbers.ACTIVE_ROUNDING / row_vector(data, slots.E, cfg)
    up, down = active_rows(data, cfg)
    full = omega * excess(data, up, down, cfg) + omega * Gdx
    z, wrong = full_step(full, v + Gdx, up, down, lo - slop, hi + slop)
    alpha, tried = slope * 0 + 1.0, number(data, slots.WRONG, cfg) != 0
    if (wrong > 0) & (failed == 0):
        if tried == 0:
            alpha = exact_line_search(slope, curvature, v, Gdx, lo, hi, omega)
        v += alpha * Gdx
        z = omega * (v - clamped(v, lo, hi))
    z = tl.where(failed, row_vector(data, slots.Z, cfg), z)

    put_columns(data, slots.X, x + alpha * dx, cfg)
    put_columns(data, slots.HX, column_vector(data, slots.HX, cfg) + bent * x + alpha * Hdx, cfg)
    put_rows(data, slots.GX, row_vector(data, slots.GX, cfg) + alpha * Gdx, cfg)
    put_rows(data, slots.Z, z, cfg)
    put_number(data, slots.IS_SETTLED, (failed == 0).to(tl.float64), cfg)
    put_number(data, slots.IS_KEPT, ((wrong == 0) & (failed == 0)).to(tl.float64), cfg)
    st = State(st.phase, st.status, st.steps + 1, st.rho)
    if failed:
        st = give_way(data, st, cfg)
    if tried:
        judge_trial(data, st.phase, wrong, failed, cfg)
    return st


@triton.jit(noinline=True)
def judge_trial(data, phase, wrong, failed, cfg: tl.constexpr):
    """Ends a trial where no row is wrong, and undoes it where not fewer are than before: see the reference."""
    tl.debug_barrier()
    before = number(data, slots.WRONG, cfg)
    undone = failed | ((wrong > 0) & (wrong >= tl.where(before < 0, numbers.TRIAL_WRONG, before)))
    if undone:
        put_columns(data, slots.X, column_vector(data, slots.X_K, cfg), cfg)
        put_columns(data, slots.HX, column_vector(data, slots.HX_K, cfg), cfg)
        put_rows(data, slots.GX, row_vector(data, slots.GX_K, cfg), cfg)
        put_rows(data, slots.Z, row_vector(data, slots.Z_K, cfg), cfg)
        put_number(data, slots.MU_EQ, number(data, slots.MU_EQ_K, cfg), cfg)
        put_number(data, slots.MU_IN, number(data, slots.MU_IN_K, cfg), cfg)
        set_omega(data, phase, cfg)
    put_number(data, slots.WRONG, tl.where(undone, 0, wrong), cfg)


@triton.jit(noinline=True)
def give_way(data, st, cfg: tl.constexpr):
    """The state after a factorization that failed: the rows are too heavy for this H, or rho is too small.

    Where both are not, H is indefinite.
    """
    tl.debug_barrier()
    rho, costs = st.rho, st.phase != numbers.Phase.SHIFT
    stiff = number(data, slots.MU_IN, cfg) < numbers.MU_FLOOR
    if stiff:
        put_number(data, slots.MU_EQ, number(data, slots.MU_EQ, cfg) / numbers.MU_SHRINK, cfg)
        put_number(data, slots.MU_IN, number(data, slots.MU_IN, cfg) / numbers.MU_SHRINK, cfg)
        put_number(data, slots.MU_FLOOR, number(data, slots.MU_FLOOR, cfg) / numbers.MU_SHRINK, cfg)
        set_omega(data, st.phase, cfg)
    else:
        rho *= numbers.RHO_GROWTH
        if costs:
            put_number(data, slots.RHO_FLOOR, rho, cfg)
    mu = tl.minimum(number(data, slots.MU_EQ, cfg), number(data, slots.MU_IN, cfg))
    indefinite = costs & (rho * mu >= numbers.INDEFINITE) & (number(data, slots.H_SIZE, cfg) > 0)
    return State(st.phase, tl.where(indefinite, numbers.Status.NUMERICAL_ERROR, st.status), st.steps, rho)
