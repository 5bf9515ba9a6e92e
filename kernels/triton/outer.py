"""The outer loop of one problem: ending it, moving multipliers, penalties and phases.

Every rule has the name that it has in the reference's outer.py, where it is explained.
"""

import triton
import triton.language as tl

from .. import numbers
from . import slots
from .measure import measure_push
from .problem import State, set_omega, shift_sides, sides
from .scratch import column_vector, number, put_columns, put_number, put_rows, row_vector
from .vectors import INF, largest, power, shrunk, some


@triton.jit
def verdict(data, st, at, max_iter, cfg: tl.constexpr):
    """The status: RUNNING where the problem goes on."""
    settled = (at.shifted == 0) | (number(data, slots.EXTRA, cfg) >= numbers.EXTRA_STEPS)
    solved = (st.phase != numbers.Phase.SHIFT) & at.hold & settled
    status = tl.where(st.steps < max_iter, st.status, numbers.Status.MAX_ITERATIONS)
    which = tl.where(at.shifted, numbers.Status.SOLVED_CLOSEST_FEASIBLE, numbers.Status.SOLVED)
    return tl.where(st.status == numbers.RUNNING, tl.where(solved, which, status), st.status)


@triton.jit(noinline=True)
def outer_step(data, st, at, cfg: tl.constexpr):
    """Moves what the inner loop holds fixed, where it has ended or a shift is found."""
    tl.debug_barrier()
    if (st.phase == numbers.Phase.SHIFTED) & at.hold:
        put_number(data, slots.EXTRA, number(data, slots.EXTRA, cfg) + 1.0, cfg)
    phase, rho = st.phase, st.rho
    status = tl.where(rho > numbers.RHO_CEILING, numbers.Status.NUMERICAL_ERROR, st.status)
    searching = phase == numbers.Phase.SHIFT
    if at.ended | searching:
        push = measure_push(data, st, cfg)
        found = searching & shift_found(data, at, push, cfg)
        optimizing = at.ended & (searching == 0)
        status = tl.where(optimizing & unbounded(data, cfg), numbers.Status.UNBOUNDED, status)
        suspicious = optimizing & (st.phase == numbers.Phase.AS_POSED) & suspect(data, st, at, push, cfg)
        seeking = at.ended & searching & (found == 0)
        if (optimizing & (suspicious == 0)) | (seeking & some(row_vector(data, slots.IS_HARD, cfg) != 0)):
            rho = move_multipliers(data, st, at, cfg)
        rho = tl.where(seeking, shrunk_rho(rho), rho)
        if at.ended | found:
            centre(data, cfg)
            put_number(data, slots.PRIMAL_K, at.primal, cfg)
        overdue = searching & (found == 0) & (st.steps > number(data, slots.ENTERED, cfg) + numbers.SHIFT_STEPS)
        impossible = overdue & (hard_violation(data, cfg) > at.primal_tolerance)
        status = tl.where(impossible, numbers.Status.INFEASIBLE, status)
        if found & (at.primal > at.primal_tolerance):
            refused = shift(data, at, cfg) & (number(data, slots.CLOSEST_FEASIBLE, cfg) == 0)
            status = tl.where(refused, numbers.Status.INFEASIBLE, status)
        if suspicious | found | overdue:
            phase = tl.where(suspicious, numbers.Phase.SHIFT, numbers.Phase.SHIFTED)
            rho = enter(data, phase, st.steps, cfg)
        set_omega(data, phase, cfg)
    return State(phase, status, st.steps, rho)


@triton.jit
def shrunk_rho(rho):
    """The next smaller weight of the proximal term."""
    return shrunk(rho, numbers.RHO_SHRINK, numbers.RHO_FLOOR)


@triton.jit
def move_multipliers(data, st, at, cfg: tl.constexpr):
    """Accepts the multipliers where the primal residual meets its target or mu is at its floor, else shrinks mu.

    Returns rho, which shrinks where the proximal term is most of the dual residual.
    """
    mu_eq, mu_in = number(data, slots.MU_EQ, cfg), number(data, slots.MU_IN, cfg)
    at_floor = (mu_eq <= numbers.MU_FLOOR) & (mu_in <= numbers.MU_FLOOR)
    posed = (row_vector(data, slots.IS_HARD, cfg) != 0) | (st.phase != numbers.Phase.SHIFT)
    violation = tl.where(posed, row_vector(data, slots.VIOLATION, cfg), 0.0)  # what may be violated has no multipliers
    if (largest(row_vector(data, slots.E, cfg) * violation) <= number(data, slots.ETA_OUT, cfg)) | at_floor:
        z_k = tl.where(posed, row_vector(data, slots.Z, cfg), row_vector(data, slots.Z_K, cfg))
        put_rows(data, slots.Z_K, z_k, cfg)
        eta_out = number(data, slots.ETA_OUT, cfg) * power(mu_in, numbers.ETA_ACCEPT_POWER)
        put_number(data, slots.ETA_OUT, eta_out, cfg)
        put_number(data, slots.ETA_IN, number(data, slots.ETA_IN, cfg) * mu_in, cfg)
    else:
        mu_in = shrunk(mu_in, numbers.MU_SHRINK, numbers.MU_FLOOR)
        put_number(data, slots.MU_EQ, shrunk(mu_eq, numbers.MU_SHRINK, numbers.MU_FLOOR), cfg)
        put_number(data, slots.MU_IN, mu_in, cfg)
        put_number(data, slots.ETA_OUT, power(mu_in, numbers.ETA_REFUSE_POWER) * numbers.FIRST_ETA_OUT, cfg)
        put_number(data, slots.ETA_IN, mu_in, cfg)
    moved = column_vector(data, slots.X, cfg) - column_vector(data, slots.X_K, cfg)
    proximal = largest(st.rho * column_vector(data, slots.METRIC_X, cfg) * moved)
    sticky = (st.phase != numbers.Phase.SHIFT) & (proximal > at.dual * numbers.RHO_STICKY)
    sticky &= at.dual > at.dual_tolerance
    return tl.where(sticky, shrunk_rho(st.rho), st.rho)


@triton.jit
def centre(data, cfg: tl.constexpr):
    """Moves the centre of the proximal term to x."""
    put_columns(data, slots.X_K, column_vector(data, slots.X, cfg), cfg)
    put_columns(data, slots.HX_K, column_vector(data, slots.HX, cfg), cfg)
    put_rows(data, slots.GX_K, row_vector(data, slots.GX, cfg), cfg)


@triton.jit
def suspect(data, st, at, push, cfg: tl.constexpr):
    """Whether the increment ``v = omega violation`` of the multipliers has ``G'v = 0``, as where no x is feasible."""
    increment = row_vector(data, slots.OMEGA, cfg) * row_vector(data, slots.VIOLATION, cfg)
    size = largest(increment / row_vector(data, slots.E, cfg))
    balance = largest(column_vector(data, slots.D, cfg) * push) / size
    stagnant = at.primal >= number(data, slots.PRIMAL_K, cfg) * numbers.STAGNATION
    balanced = (balance <= numbers.SUSPICION) | ((balance <= numbers.STAGNANT_SUSPICION) & stagnant)
    return balanced & (at.primal > at.primal_tolerance * numbers.SUSPECT_VIOLATION)


@triton.jit
def unbounded(data, cfg: tl.constexpr):
    """Whether the last step of the centre is a direction of descent with no curvature that approaches no side."""
    lo, hi = sides(data, cfg)
    c, scale = number(data, slots.C_SCALE, cfg), column_vector(data, slots.D, cfg)
    d = column_vector(data, slots.X, cfg) - column_vector(data, slots.X_K, cfg)
    bound = largest(d / scale) * numbers.RECESSION
    Gd = row_vector(data, slots.E, cfg) * (row_vector(data, slots.GX, cfg) - row_vector(data, slots.GX_K, cfg))
    up, down = tl.where(Gd > 0, Gd, 0.0), tl.where(Gd < 0, Gd, 0.0)
    approach = tl.where(tl.abs(hi) == INF, 0.0, up) - tl.where(tl.abs(lo) == INF, 0.0, down)
    Hd = column_vector(data, slots.HX, cfg) - column_vector(data, slots.HX_K, cfg)
    descends = c * tl.sum(column_vector(data, slots.COST, cfg) * d, axis=0) < -(bound * numbers.DESCENT)
    return (largest(c * scale * Hd) <= bound) & descends & (largest(approach) <= bound)


@triton.jit
def hard_violation(data, cfg: tl.constexpr):
    """The largest violation of a hard row."""
    hard = row_vector(data, slots.IS_HARD, cfg) != 0
    return largest(tl.where(hard, row_vector(data, slots.VIOLATION, cfg), 0.0))


@triton.jit
def shift_found(data, at, push, cfg: tl.constexpr):
    """Whether x is feasible, or the shift s has ``G'(w s) = 0``, up to rounding errors and next to the size of s."""
    columns, rows = column_vector(data, slots.D, cfg), row_vector(data, slots.E, cfg)
    w, violation = row_vector(data, slots.SHIFT_WEIGHT, cfg), row_vector(data, slots.VIOLATION, cfg)
    push = push / number(data, slots.SHIFT_UNIT, cfg)
    kept = hard_violation(data, cfg) <= at.primal_tolerance * numbers.SHIFT_FLOOR
    scaled, size = largest(columns * push), largest(w * violation / rows)
    weight = tl.where(violation != 0, w / (rows * rows), 0.0)
    rounding = largest(column_vector(data, slots.X, cfg) / columns) * largest(weight) * numbers.SHIFT_ROUNDING
    rounded = (scaled <= rounding) & (scaled <= size * numbers.SHIFT_BALANCE_ROUNDED)
    flat = largest(push) <= number(data, slots.EPS_ABS, cfg) * numbers.SHIFT_ACCURACY
    balanced = (scaled <= size * numbers.SHIFT_BALANCE) & flat
    return (at.primal <= at.primal_tolerance) | ((balanced | rounded) & kept)


@triton.jit
def shift(data, at, cfg: tl.constexpr):
    """Shifts the rows by their violation, which makes x feasible; returns whether some row is shifted."""
    violation = row_vector(data, slots.VIOLATION, cfg)
    small = tl.abs(violation) <= at.primal_tolerance * numbers.SHIFT_FLOOR
    s = tl.where(small | (row_vector(data, slots.IS_HARD, cfg) != 0), 0.0, violation)
    put_rows(data, slots.S, row_vector(data, slots.S, cfg) + s, cfg)
    shift_sides(data, s, cfg)
    return some(s != 0)


@triton.jit
def enter(data, phase, steps, cfg: tl.constexpr):
    """Begins a phase at the present x with no multipliers and the first penalties; returns the first rho."""
    none = 0.0 * row_vector(data, slots.E, cfg)
    put_rows(data, slots.Z, none, cfg)
    put_rows(data, slots.Z_K, none, cfg)
    set_penalties(data, cfg)
    if phase == numbers.Phase.SHIFT:
        put_number(data, slots.ETA_IN, numbers.SHIFT_INNER, cfg)
    put_number(data, slots.ENTERED, steps, cfg)
    return number(data, slots.FIRST_RHO, cfg)


@triton.jit
def set_penalties(data, cfg: tl.constexpr):
    """Writes the first penalties and targets."""
    put_number(data, slots.MU_EQ, number(data, slots.FIRST_MU_EQ, cfg), cfg)
    put_number(data, slots.MU_IN, number(data, slots.FIRST_MU_IN, cfg), cfg)
    put_number(data, slots.ETA_OUT, numbers.FIRST_ETA_OUT, cfg)
    put_number(data, slots.ETA_IN, numbers.FIRST_ETA_IN, cfg)
