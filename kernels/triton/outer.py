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
    C_SCALE,
    CLOSEST_FEASIBLE,
    ENTERED,
    EPS_ABS,
    EPS_REL,
    ETA_IN,
    ETA_OUT,
    EXTRA,
    FIRST_MU_EQ,
    FIRST_MU_IN,
    FIRST_RHO,
    GX,
    GX_K,
    HARD,
    HX,
    HX_K,
    INF,
    INFEASIBLE,
    MAX_ITERATIONS,
    MU_EQ,
    MU_IN,
    NUMERICAL_ERROR,
    OMEGA,
    PRIMAL_K,
    PROX,
    RUNNING,
    SHIFT,
    SHIFTED,
    SOLVED,
    SOLVED_CLOSEST_FEASIBLE,
    UNBOUNDED,
    UNIT,
    X_K,
    Z_K,
    D,
    E,
    G,
    S,
    State,
    U,
    W,
    X,
    Z,
    clamped,
    column_vector,
    cost_gradient,
    largest,
    number,
    put_columns,
    put_number,
    put_rows,
    row_vector,
    set_omega,
    shift_sides,
    sides,
    some,
)
from .products import columns_of

MU_FLOOR = tl.constexpr(_outer.MU_FLOOR)
MU_FLOOR_MIXED = tl.constexpr(_outer.MU_FLOOR_MIXED)
MU_SHRINK = tl.constexpr(_outer.MU_SHRINK)
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


@triton.jit(noinline=True)
def measure(data, st, cfg: tl.constexpr):
    """Residuals, tolerances, and whether the inner loop has ended."""
    lo, hi = sides(data, cfg)
    x, Hx, g = column_vector(data, X, cfg), column_vector(data, HX, cfg), column_vector(data, G, cfg)
    z, Gx = row_vector(data, Z, cfg), row_vector(data, GX, cfg)
    eps_abs, eps_rel, c = number(data, EPS_ABS, cfg), number(data, EPS_REL, cfg), number(data, C_SCALE, cfg)
    Gz = columns_of(data, Z, cfg)
    primal, dual = largest(Gx - clamped(Gx, lo, hi)), largest(Hx + g + Gz)
    gap = tl.sum(tl.abs(z) * tl.abs(tl.where(z == 0, 0.0, Gx - tl.where(z > 0, hi, lo))), axis=0)
    primal_tolerance = eps_abs + eps_rel * largest(Gx)
    dual_tolerance = eps_abs + eps_rel * tl.maximum(largest(Hx), tl.maximum(largest(g), largest(Gz)))
    gap_tolerance = eps_abs + tl.maximum(eps_abs, eps_rel) * tl.abs(tl.sum(x * (0.5 * Hx + g), axis=0))

    scale = row_vector(data, E, cfg)
    centred = st.rho * column_vector(data, PROX, cfg) * (x - column_vector(data, X_K, cfg))
    inner_dual = cost_gradient(data, st, cfg) + Gz + centred
    weight = row_vector(data, OMEGA, cfg)
    v = Gx + row_vector(data, Z_K, cfg) / weight
    inner_primal = v - clamped(v, lo, hi) - z / weight
    scaled = tl.maximum(largest(c * column_vector(data, D, cfg) * inner_dual), largest(scale * inner_primal))
    rounding = largest(c * z / scale) * ROUNDING
    ended = (scaled <= tl.maximum(number(data, ETA_IN, cfg), rounding)) | (
        tl.maximum(largest(inner_dual), largest(inner_primal)) <= eps_abs * INNER_FLOOR
    )
    hold = (primal <= primal_tolerance) & (dual <= dual_tolerance) & (gap <= gap_tolerance)
    shifted = some(row_vector(data, S, cfg) != 0)
    worst = tl.maximum(tl.maximum(primal / primal_tolerance, dual / dual_tolerance), gap / gap_tolerance)
    return Measure(primal, dual, gap, primal_tolerance, dual_tolerance, worst, hold, ended, shifted)


@triton.jit
def verdict(data, st, at, max_iter, cfg: tl.constexpr):
    """The status: RUNNING where the problem goes on."""
    solved = (st.phase != SHIFT) & at.hold & ((at.shifted == 0) | (number(data, EXTRA, cfg) >= EXTRA_STEPS))
    status = tl.where(st.steps < max_iter, st.status, MAX_ITERATIONS)
    status = tl.where(solved, tl.where(at.shifted, SOLVED_CLOSEST_FEASIBLE, SOLVED), status)
    return tl.where(st.status == RUNNING, status, st.status)


@triton.jit
def outer_step(data, st, at, cfg: tl.constexpr):
    """Moves what the inner loop holds fixed, where it has ended or a shift is found."""
    if (st.phase == SHIFTED) & at.hold:
        put_number(data, EXTRA, number(data, EXTRA, cfg) + 1.0, cfg)
    st = State(st.phase, tl.where(st.rho > RHO_CEILING, NUMERICAL_ERROR, st.status), st.steps, st.rho)
    if at.ended | (st.phase == SHIFT):
        st = moved(data, st, at, cfg)
    return st


@triton.jit(noinline=True)
def moved(data, st, at, cfg: tl.constexpr):
    """The outer step proper."""
    lo, hi = sides(data, cfg)
    Gx = row_vector(data, GX, cfg)
    violation, hard = Gx - clamped(Gx, lo, hi), row_vector(data, HARD, cfg) != 0
    increment = row_vector(data, OMEGA, cfg) * violation
    searching = st.phase == SHIFT
    put_rows(data, U, tl.where(hard & searching, row_vector(data, Z, cfg), increment), cfg)
    push = columns_of(data, U, cfg)
    found = searching & shift_found(data, at, violation, hard, push, cfg)
    optimizing = at.ended & (searching == 0)
    status = tl.where(optimizing & unbounded(data, lo, hi, cfg), UNBOUNDED, st.status)
    suspect = optimizing & (st.phase == AS_POSED) & suspected(data, st, at, increment, push, cfg)
    seeking = at.ended & searching & (found == 0)
    update = (optimizing & (suspect == 0)) | (seeking & some(hard))
    accept, refuse, rho = judged(data, st, at, violation, hard, update, cfg)
    rho = tl.where(seeking, shrunk(rho, 0.1, RHO_FLOOR), rho)
    overdue = searching & (found == 0) & (st.steps > number(data, ENTERED, cfg) + SHIFT_STEPS)
    impossible = overdue & (largest(tl.where(hard, violation, 0.0)) > at.primal_tolerance)
    status = tl.where(impossible, INFEASIBLE, status)
    entering = suspect | found | overdue
    keep_vectors(data, accept, at.ended | found, entering, searching, hard, cfg)
    if found & (at.primal > at.primal_tolerance):
        small = hard | (tl.abs(violation) <= at.primal_tolerance * SHIFT_FLOOR)
        s = tl.where(small, 0.0, violation)
        put_rows(data, S, row_vector(data, S, cfg) + s, cfg)
        shift_sides(data, s, cfg)
        refused = some(s != 0) & (number(data, CLOSEST_FEASIBLE, cfg) == 0)
        status = tl.where(refused, INFEASIBLE, status)
    if at.ended | found:
        put_number(data, PRIMAL_K, at.primal, cfg)
    if accept | refuse:
        set_penalties(data, refuse, cfg)
    st = State(st.phase, status, st.steps, rho)
    if entering:
        st = entered(data, st, tl.where(suspect, SHIFT, SHIFTED), cfg)
    set_omega(data, st, cfg)
    return st


@triton.jit
def suspected(data, st, at, increment, push, cfg: tl.constexpr):
    """Whether the increment v = omega violation of the multipliers has ``G'v = 0``, as where no x is feasible."""
    balance = largest(column_vector(data, D, cfg) * push) / largest(increment / row_vector(data, E, cfg))
    stagnant = (balance <= STAGNANT_SUSPICION) & (at.primal >= number(data, PRIMAL_K, cfg) * STAGNATION)
    return ((balance <= SUSPICION) | stagnant) & (at.primal > 2.0 * at.primal_tolerance)


@triton.jit
def unbounded(data, lo, hi, cfg: tl.constexpr):
    """Whether the last step of the centre is a direction of descent with no curvature that approaches no side."""
    c, scale = number(data, C_SCALE, cfg), column_vector(data, D, cfg)
    d = column_vector(data, X, cfg) - column_vector(data, X_K, cfg)
    bound = largest(d / scale) * RECESSION
    Gd = row_vector(data, E, cfg) * (row_vector(data, GX, cfg) - row_vector(data, GX_K, cfg))
    up, down = tl.where(Gd > 0, Gd, 0.0), tl.where(Gd < 0, Gd, 0.0)
    approach = tl.where(tl.abs(hi) == INF, 0.0, up) - tl.where(tl.abs(lo) == INF, 0.0, down)
    bend = column_vector(data, HX, cfg) - column_vector(data, HX_K, cfg)
    descends = c * tl.sum(column_vector(data, G, cfg) * d, axis=0) < -100.0 * bound
    return (largest(c * scale * bend) <= bound) & descends & (largest(approach) <= bound)


@triton.jit
def shift_found(data, at, violation, hard, push, cfg: tl.constexpr):
    """Whether x is feasible, or the shift s has ``G'(w s) = 0``, up to rounding errors and next to the size of s."""
    columns, rows = column_vector(data, D, cfg), row_vector(data, E, cfg)
    push, w = push / number(data, UNIT, cfg), row_vector(data, W, cfg)
    kept = largest(tl.where(hard, violation, 0.0)) <= at.primal_tolerance * SHIFT_FLOOR
    scaled, size = largest(columns * push), largest(w * violation / rows)
    weight = tl.where(violation != 0, w / (rows * rows), 0.0)
    rounding = largest(column_vector(data, X, cfg) / columns) * largest(weight) * ROUNDING
    rounded = (scaled <= rounding) & (scaled <= size * SHIFT_BALANCE_ROUNDED)
    flat = largest(push) <= number(data, EPS_ABS, cfg) * SHIFT_ACCURACY
    balanced = (scaled <= size * SHIFT_BALANCE) & flat
    return (at.primal <= at.primal_tolerance) | ((balanced | rounded) & kept)


@triton.jit
def shrunk(value, factor, floor):
    """``max(factor value, floor)``."""
    value *= factor
    return tl.where(value < floor, floor, value)


@triton.jit
def judged(data, st, at, violation, hard, update, cfg: tl.constexpr):
    """Whether the multipliers are accepted, whether mu shrinks instead, and rho."""
    floor: tl.constexpr = MU_FLOOR_MIXED if cfg.mixed else MU_FLOOR
    at_floor = (number(data, MU_EQ, cfg) <= floor) & (number(data, MU_IN, cfg) <= floor)
    posed = tl.where(st.phase == SHIFT, tl.where(hard, violation, 0.0), violation)
    accept = update & ((largest(row_vector(data, E, cfg) * posed) <= number(data, ETA_OUT, cfg)) | at_floor)
    moved_by = column_vector(data, X, cfg) - column_vector(data, X_K, cfg)
    proximal = largest(st.rho * column_vector(data, PROX, cfg) * moved_by)
    sticky = update & (st.phase != SHIFT) & (proximal > 0.5 * at.dual) & (at.dual > at.dual_tolerance)
    return accept, update & (accept == 0), tl.where(sticky, shrunk(st.rho, 0.1, RHO_FLOOR), st.rho)


@triton.jit
def keep_vectors(data, accept, centre, entering, searching, hard, cfg: tl.constexpr):
    """Accepts multipliers, moves the centre of the proximal term, and clears multipliers where a phase begins."""
    z, z_k = row_vector(data, Z, cfg), row_vector(data, Z_K, cfg)
    posed = tl.where(searching, tl.where(hard, z, z_k), z)  # what may be violated has no multipliers
    put_rows(data, Z_K, tl.where(entering, 0.0, tl.where(accept, posed, z_k)), cfg)
    if entering:
        put_rows(data, Z, 0.0 * z, cfg)
    if centre:
        set_centre(data, cfg)


@triton.jit
def set_centre(data, cfg: tl.constexpr):
    """Moves the centre of the proximal term to x."""
    put_columns(data, X_K, column_vector(data, X, cfg), cfg)
    put_columns(data, HX_K, column_vector(data, HX, cfg), cfg)
    put_rows(data, GX_K, row_vector(data, GX, cfg), cfg)


@triton.jit
def set_penalties(data, refuse, cfg: tl.constexpr):
    """Writes the penalties and targets that follow a refused, or else an accepted, update."""
    floor: tl.constexpr = MU_FLOOR_MIXED if cfg.mixed else MU_FLOOR
    mu_eq, mu_in = number(data, MU_EQ, cfg), number(data, MU_IN, cfg)
    mu_eq = tl.where(refuse, shrunk(mu_eq, MU_SHRINK, floor), mu_eq)
    mu_in = tl.where(refuse, shrunk(mu_in, MU_SHRINK, floor), mu_in)
    tenth = tl.exp(0.1 * tl.log(mu_in))
    put_number(data, MU_EQ, mu_eq, cfg)
    put_number(data, MU_IN, mu_in, cfg)
    put_number(data, ETA_OUT, tl.where(refuse, tenth * FIRST_ETA_OUT, number(data, ETA_OUT, cfg) * mu_in / tenth), cfg)
    put_number(data, ETA_IN, tl.where(refuse, mu_in, number(data, ETA_IN, cfg) * mu_in), cfg)


@triton.jit
def entered(data, st, phase, cfg: tl.constexpr):
    """The state at the beginning of a phase."""
    put_number(data, MU_EQ, number(data, FIRST_MU_EQ, cfg), cfg)
    put_number(data, MU_IN, number(data, FIRST_MU_IN, cfg), cfg)
    put_number(data, ETA_OUT, FIRST_ETA_OUT, cfg)
    rho = number(data, FIRST_RHO, cfg)
    put_number(data, ETA_IN, tl.where(phase == SHIFT, 0.0 * rho + SHIFT_INNER, 1.0), cfg)
    put_number(data, ENTERED, st.steps, cfg)
    return State(phase, st.status, st.steps, rho)
