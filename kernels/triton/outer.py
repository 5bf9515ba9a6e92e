"""The outer loop of one problem: measuring a point, ending, moving multipliers, penalties and phases.

Every rule and every number is that of the reference's outer.py, where they are explained.
"""

from typing import Any, NamedTuple

import triton
import triton.language as tl

from ..reference import outer as _outer
from ..reference import state as _state
from .problem import (
    AS_POSED,
    INF,
    INFEASIBLE,
    MAX_ITERATIONS,
    NUMERICAL_ERROR,
    RUNNING,
    SHIFT,
    SHIFTED,
    SOLVED,
    SOLVED_CLOSEST_FEASIBLE,
    UNBOUNDED,
    State,
    clamped,
    column_scale,
    column_vector,
    cost_gradient,
    largest,
    may_shift,
    omega,
    prox,
    row_scale,
    row_vector,
    sides,
    some,
)
from .products import all_columns_product, get, put

MU_FLOOR = tl.constexpr(_outer.MU_FLOOR)
MU_SHRINK = tl.constexpr(_outer.MU_SHRINK)
FLOOR_TENTH = tl.constexpr(_outer.MU_FLOOR**0.1)
FLOOR_NINE_TENTHS = tl.constexpr(_outer.MU_FLOOR**0.9)
SHRINK_TENTH = tl.constexpr(_outer.MU_SHRINK**0.1)
SHRINK_NINE_TENTHS = tl.constexpr(_outer.MU_SHRINK**0.9)
RHO_FLOOR = tl.constexpr(_outer.RHO_FLOOR)
RHO_CEILING = tl.constexpr(_outer.RHO_CEILING)
INNER_FLOOR = tl.constexpr(_outer.INNER_FLOOR)
SHIFT_FLOOR = tl.constexpr(_outer.SHIFT_FLOOR)
SHIFT_ACCURACY = tl.constexpr(_outer.SHIFT_ACCURACY)
SHIFT_INNER = tl.constexpr(_outer.SHIFT_INNER)
SHIFT_STEPS = tl.constexpr(_outer.SHIFT_STEPS)
SHIFT_BALANCE = tl.constexpr(_outer.SHIFT_BALANCE)
SHIFT_BALANCE_ROUNDED = tl.constexpr(_outer.SHIFT_BALANCE_ROUNDED)
ROUNDING = tl.constexpr(_outer.ROUNDING)
EXTRA_STEPS = tl.constexpr(_outer.EXTRA_STEPS)
SUSPICION = tl.constexpr(_outer.SUSPICION)
STAGNANT_SUSPICION = tl.constexpr(_outer.STAGNANT_SUSPICION)
STAGNATION = tl.constexpr(_outer.STAGNATION)
RECESSION = tl.constexpr(_outer.RECESSION)
FIRST_ETA_OUT = tl.constexpr(_state.FIRST_ETA_OUT)


class Measure(NamedTuple):
    """Where the problem stands, in the units of the data."""

    primal: Any
    dual: Any
    gap: Any
    primal_tolerance: Any
    dual_tolerance: Any
    worst: Any  # the largest of the three residuals next to its tolerance
    hold: Any  # whether the three residuals are within their tolerances
    ended: Any  # whether the inner loop has ended
    shifted: Any  # whether some row is


@triton.jit
def measure(data, st, cfg: tl.constexpr):
    """Residuals, tolerances, and whether the inner loop has ended."""
    lo, hi = sides(data, cfg)
    x, Hx, g = column_vector(data.x, cfg), column_vector(data.Hx, cfg), column_vector(data.g, cfg)
    z, Gx = row_vector(data.z, data, cfg), row_vector(data.Gx, data, cfg)
    Gz = all_columns_product(data.A, data.C, data.n_eq, data.n_in, data.z, cfg.n, cfg.N, cfg.bounded, cfg.chunk)
    primal, dual = largest(Gx - clamped(Gx, lo, hi)), largest(Hx + g + Gz)
    gap = tl.sum(tl.abs(z) * tl.abs(tl.where(z == 0, 0.0, Gx - tl.where(z > 0, hi, lo))), axis=0)
    primal_tolerance, dual_tolerance = cfg.eps_abs + cfg.eps_rel * largest(Gx), cfg.eps_abs + 0.0 * dual
    if cfg.eps_rel > 0:
        dual_tolerance += cfg.eps_rel * tl.maximum(largest(Hx), tl.maximum(largest(g), largest(Gz)))
    objective = tl.abs(tl.sum(x * (0.5 * Hx + g), axis=0))
    gap_tolerance = cfg.eps_abs + (cfg.eps_abs if cfg.eps_abs > cfg.eps_rel else cfg.eps_rel) * objective

    D, E = column_scale(data, cfg), row_scale(data, cfg)
    inner_dual = cost_gradient(data, st, cfg) + Gz + prox(data, st, cfg) * (x - column_vector(data.x_k, cfg))
    weight = omega(data, st, cfg)
    v = Gx + row_vector(data.z_k, data, cfg) / weight
    inner_primal = v - clamped(v, lo, hi) - z / weight
    scaled = tl.maximum(largest(data.c * D * inner_dual), largest(E * inner_primal))
    rounding = largest(data.c * z / E) * ROUNDING
    ended = (scaled <= tl.maximum(st.eta_in, rounding)) | (
        tl.maximum(largest(inner_dual), largest(inner_primal)) <= INNER_FLOOR * cfg.eps_abs
    )
    hold = (primal <= primal_tolerance) & (dual <= dual_tolerance) & (gap <= gap_tolerance)
    shifted = some(row_vector(data.s, data, cfg) != 0)
    worst = tl.maximum(tl.maximum(primal / primal_tolerance, dual / dual_tolerance), gap / gap_tolerance)
    return Measure(primal, dual, gap, primal_tolerance, dual_tolerance, worst, hold, ended, shifted)


@triton.jit
def verdict(st, at, max_iter):
    """The status: RUNNING where the problem goes on."""
    solved = (st.phase != SHIFT) & at.hold & ((at.shifted == 0) | (st.extra >= EXTRA_STEPS))
    status = tl.where(st.steps < max_iter, st.status, MAX_ITERATIONS)
    status = tl.where(solved, tl.where(at.shifted, SOLVED_CLOSEST_FEASIBLE, SOLVED), status)
    return tl.where(st.status == RUNNING, status, st.status)


@triton.jit
def outer_step(data, st, at, cfg: tl.constexpr):
    """Moves what the inner loop holds fixed, where it has ended or a shift is found."""
    st = State(
        st.phase,
        tl.where(st.rho > RHO_CEILING, NUMERICAL_ERROR, st.status),
        st.steps,
        st.entered,
        st.extra + ((st.phase == SHIFTED) & at.hold).to(tl.int32),
        st.mu_eq,
        st.mu_in,
        st.rho,
        st.eta_out,
        st.eta_in,
        st.primal_k,
        st.mu_tenth,
        st.mu_nine_tenths,
    )
    if at.ended | (st.phase == SHIFT):
        st = moved(data, st, at, cfg)
    return st


@triton.jit
def moved(data, st, at, cfg: tl.constexpr):
    """The outer step proper."""
    lo, hi = sides(data, cfg)
    Gx = row_vector(data.Gx, data, cfg)
    violation, weight = Gx - clamped(Gx, lo, hi), omega(data, st, cfg)
    hard = may_shift(data, cfg) == 0
    searching = st.phase == SHIFT
    pushing = tl.where(searching, row_vector(data.z, data, cfg), weight * violation)
    put(data.t, tl.where(hard, pushing, weight * violation), data.m, cfg.M)
    push = all_columns_product(data.A, data.C, data.n_eq, data.n_in, data.t, cfg.n, cfg.N, cfg.bounded, cfg.chunk)
    found = searching & shift_found(data, st, at, violation, hard, push, cfg)
    optimizing = at.ended & (searching == 0)
    status = tl.where(optimizing & unbounded(data, st, lo, hi, cfg), UNBOUNDED, st.status)
    suspect = optimizing & (st.phase == AS_POSED) & suspected(data, st, at, weight * violation, push, cfg)
    seeking = at.ended & searching & (found == 0)
    accept, refuse, rho = judged(
        data, st, at, violation, hard, (optimizing & (suspect == 0)) | (seeking & some(hard)), cfg
    )
    rho = tl.where(seeking, shrunk_rho(rho), rho)
    overdue = searching & (found == 0) & (st.steps > st.entered + SHIFT_STEPS)
    impossible = overdue & (largest(tl.where(hard, violation, 0.0)) > at.primal_tolerance)
    status = tl.where(impossible, INFEASIBLE, status)
    entering = suspect | found | overdue
    keep_vectors(data, accept, at.ended | found, entering, searching, hard, cfg)
    if found & (at.primal > at.primal_tolerance):
        small = hard | (tl.abs(violation) <= at.primal_tolerance * SHIFT_FLOOR)
        s = tl.where(small, 0.0, violation)
        put(data.s, row_vector(data.s, data, cfg) + s, data.m, cfg.M)
        if cfg.closest_feasible == 0:
            status = tl.where(some(s != 0), INFEASIBLE, status)
    st = penalties(st, status, accept, refuse, rho, tl.where(at.ended | found, at.primal, st.primal_k))
    return entered(st, suspect, entering, cfg)


@triton.jit
def suspected(data, st, at, increment, push, cfg: tl.constexpr):
    """Whether the increment v = omega violation of the multipliers has ``G'v = 0``, as where no x is feasible."""
    balance = largest(column_scale(data, cfg) * push) / largest(increment / row_scale(data, cfg))
    stagnant = (balance <= STAGNANT_SUSPICION) & (at.primal >= st.primal_k * STAGNATION)
    return ((balance <= SUSPICION) | stagnant) & (at.primal > 2.0 * at.primal_tolerance)


@triton.jit
def unbounded(data, st, lo, hi, cfg: tl.constexpr):
    """Whether the last step of the centre is a direction of descent with no curvature that approaches no side."""
    D, E = column_scale(data, cfg), row_scale(data, cfg)
    d = column_vector(data.x, cfg) - column_vector(data.x_k, cfg)
    bound = largest(d / D) * RECESSION
    Gd = E * (row_vector(data.Gx, data, cfg) - row_vector(data.Gx_k, data, cfg))
    up, down = tl.where(Gd > 0, Gd, 0.0), tl.where(Gd < 0, Gd, 0.0)
    approach = tl.where(tl.abs(hi) == INF, 0.0, up) - tl.where(tl.abs(lo) == INF, 0.0, down)
    bend = column_vector(data.Hx, cfg) - column_vector(data.Hx_k, cfg)
    descends = data.c * tl.sum(column_vector(data.g, cfg) * d, axis=0) < -100.0 * bound
    return (largest(data.c * D * bend) <= bound) & descends & (largest(approach) <= bound)


@triton.jit
def shift_found(data, st, at, violation, hard, push, cfg: tl.constexpr):
    """Whether x is feasible, or the shift s has ``G'(w s) = 0``, up to rounding errors and next to the size of s."""
    D, E = column_scale(data, cfg), row_scale(data, cfg)
    push, w = push / data.shift_unit, get(data.w, data.m, 0.0, cfg.M)
    kept = largest(tl.where(hard, violation, 0.0)) <= at.primal_tolerance * SHIFT_FLOOR
    scaled, size = largest(D * push), largest(w * violation / E)
    weight = tl.where(violation != 0, w / (E * E), 0.0)
    rounding = largest(column_vector(data.x, cfg) / D) * largest(weight) * ROUNDING
    rounded = (scaled <= rounding) & (scaled <= size * SHIFT_BALANCE_ROUNDED)
    balanced = (scaled <= size * SHIFT_BALANCE) & (largest(push) <= SHIFT_ACCURACY * cfg.eps_abs)
    return (at.primal <= at.primal_tolerance) | ((balanced | rounded) & kept)


@triton.jit
def shrunk_rho(rho):
    """A tenth of rho, but not below its floor."""
    rho *= 0.1
    return tl.where(rho < RHO_FLOOR, RHO_FLOOR, rho)


@triton.jit
def judged(data, st, at, violation, hard, update, cfg: tl.constexpr):
    """Whether the multipliers are accepted, whether mu shrinks instead, and rho."""
    at_floor = (st.mu_eq <= MU_FLOOR) & (st.mu_in <= MU_FLOOR)
    posed = tl.where(st.phase == SHIFT, tl.where(hard, violation, 0.0), violation)
    accept = update & ((largest(row_scale(data, cfg) * posed) <= st.eta_out) | at_floor)
    proximal = largest(prox(data, st, cfg) * (column_vector(data.x, cfg) - column_vector(data.x_k, cfg)))
    sticky = update & (st.phase != SHIFT) & (proximal > 0.5 * at.dual) & (at.dual > at.dual_tolerance)
    return accept, update & (accept == 0), tl.where(sticky, shrunk_rho(st.rho), st.rho)


@triton.jit
def keep_vectors(data, accept, centre, entering, searching, hard, cfg: tl.constexpr):
    """Accepts multipliers, moves the centre of the proximal term, and clears multipliers where a phase begins."""
    z, z_k = row_vector(data.z, data, cfg), row_vector(data.z_k, data, cfg)
    posed = tl.where(searching, tl.where(hard, z, z_k), z)  # what may be violated has no multipliers
    put(data.z_k, tl.where(entering, 0.0, tl.where(accept, posed, z_k)), data.m, cfg.M)
    if entering:
        put(data.z, 0.0 * z, data.m, cfg.M)
    if centre:
        put(data.x_k, column_vector(data.x, cfg), cfg.n, cfg.N)
        put(data.Hx_k, column_vector(data.Hx, cfg), cfg.n, cfg.N)
        put(data.Gx_k, row_vector(data.Gx, data, cfg), data.m, cfg.M)


@triton.jit
def shrunk(mu, factor, floor):
    """``max(factor mu, floor)``."""
    mu *= factor
    return tl.where(mu < floor, floor, mu)


@triton.jit
def penalties(st, status, accept, refuse, rho, primal_k):
    """The state with the penalties and targets that follow an accepted or a refused update."""
    mu_in = tl.where(refuse, shrunk(st.mu_in, MU_SHRINK, MU_FLOOR), st.mu_in)
    tenth = tl.where(refuse, shrunk(st.mu_tenth, SHRINK_TENTH, FLOOR_TENTH), st.mu_tenth)
    nine = tl.where(refuse, shrunk(st.mu_nine_tenths, SHRINK_NINE_TENTHS, FLOOR_NINE_TENTHS), st.mu_nine_tenths)
    return State(
        st.phase,
        status,
        st.steps,
        st.entered,
        st.extra,
        tl.where(refuse, shrunk(st.mu_eq, MU_SHRINK, MU_FLOOR), st.mu_eq),
        mu_in,
        rho,
        tl.where(accept, st.eta_out * nine, tl.where(refuse, tenth * FIRST_ETA_OUT, st.eta_out)),
        tl.where(accept, st.eta_in * mu_in, tl.where(refuse, mu_in, st.eta_in)),
        primal_k,
        tenth,
        nine,
    )


@triton.jit
def entered(st, suspect, entering, cfg: tl.constexpr):
    """The state at the beginning of phase SHIFT, where suspect, or of SHIFTED; the same where none is entered."""
    return State(
        tl.where(entering, tl.where(suspect, SHIFT, SHIFTED), st.phase),
        st.status,
        st.steps,
        tl.where(entering, st.steps, st.entered),
        st.extra,
        tl.where(entering, cfg.mu_eq, st.mu_eq),
        tl.where(entering, cfg.mu_in, st.mu_in),
        tl.where(entering, cfg.rho, st.rho),
        tl.where(entering, FIRST_ETA_OUT, st.eta_out),
        tl.where(entering, tl.where(suspect, SHIFT_INNER, st.eta_in * 0 + 1.0), st.eta_in),
        st.primal_k,
        tl.where(entering, cfg.mu_in**0.1, st.mu_tenth),
        tl.where(entering, cfg.mu_in**0.9, st.mu_nine_tenths),
    )
