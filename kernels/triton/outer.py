"""The outer loop of one problem: ending it, moving multipliers, penalties and phases.

Every rule has the name that it has in the reference's outer.py, where it is explained.
"""

import triton
import triton.language as tl

from .. import numbers
from . import slots
from .measure import measure_push, rounding_of_rows
from .problem import State, set_omega, shift_sides, sides
from .scratch import column_vector, number, put_columns, put_number, put_rows, row_vector
from .vectors import INF, at_least, at_most, largest, power, shrunk, some


@triton.jit
def verdict(data, st, at, max_iter, cfg: tl.constexpr):
    """The status: RUNNING where the problem goes on."""
    exact = (at.shifted == 0) | (at.worst <= numbers.EXTRA_ACCURACY)
    exact |= number(data, slots.EXTRA, cfg) >= numbers.EXTRA_STEPS
    settled = number(data, slots.IS_SETTLED, cfg) != 0
    solved = (st.phase != numbers.Phase.SHIFT) & settled & at.hold & exact
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
    started = (st.steps == 0) & (number(data, slots.IS_SETTLED, cfg) != 0)
    ended, searching = (at.inner <= at.inner_enough) & (started == 0), phase == numbers.Phase.SHIFT
    if ended | searching:
        push = measure_push(data, st, cfg)
        found, doubtful = shift_found(data, st, at, push, cfg)
        found &= searching
        optimizing = ended & (searching == 0)
        if optimizing:
            status = judge_last_step(data, st, at, status, cfg)
        suspicious = optimizing & (at.shifted == 0) & suspect(data, at, push, cfg)
        seeking = ended & searching & (found == 0)
        if (optimizing & (suspicious == 0)) | (seeking & some(row_vector(data, slots.IS_HARD, cfg) != 0)):
            rho = move_multipliers(data, st, at, cfg)
        least_rho = number(data, slots.RHO_FLOOR, cfg) * numbers.SHIFT_RHO
        rho = tl.where(seeking, shrunk(rho, numbers.RHO_SHRINK, least_rho), rho)
        if ended | found:
            centre(data, cfg)
            put_number(data, slots.PRIMAL_K, at.primal, cfg)
        ending, late = found, st.steps > number(data, slots.ENTERED, cfg) + numbers.SHIFT_STEPS
        if searching & (late | doubtful):
            decided = number(data, slots.MU_IN, cfg) <= number(data, slots.MU_FLOOR, cfg)
            ending = found | decided | (hard_violation(data, cfg) <= at.primal_tolerance)
        if ending:
            status = tl.where(end_search(data, at, found, cfg), numbers.Status.INFEASIBLE, status)
        if suspicious | (ending & (status == numbers.RUNNING)):
            phase = tl.where(suspicious, numbers.Phase.SHIFT, numbers.Phase.SHIFTED)
            rho = enter(data, phase, st.steps, cfg)
        set_omega(data, phase, cfg)
    if started:
        begin_from_start(data, phase, at.inner, cfg)
    return State(phase, status, st.steps, rho)


@triton.jit
def judge_last_step(data, st, at, status, cfg: tl.constexpr):
    """The status after a step of the centre: it may be a ray, or show that H is indefinite."""
    status = tl.where(unbounded(data, st, at, cfg), numbers.Status.UNBOUNDED, status)
    if cfg.has_h:
        status = tl.where(bend(data, at, cfg), numbers.Status.NUMERICAL_ERROR, status)
    return status


@triton.jit
def move_multipliers(data, st, at, cfg: tl.constexpr):
    """Accepts the multipliers where the primal residual meets its target or mu is at its floor, else shrinks mu.

    At the floor this gives way where the residual stalls. Returns rho, which shrinks where the proximal term is most
    of the dual residual.
    """
    mu_eq, mu_in = number(data, slots.MU_EQ, cfg), number(data, slots.MU_IN, cfg)
    floor, eta_out = number(data, slots.MU_FLOOR, cfg), number(data, slots.ETA_OUT, cfg)
    at_floor = (mu_eq <= floor) & (mu_in <= floor)
    posed = (row_vector(data, slots.IS_HARD, cfg) != 0) | (st.phase != numbers.Phase.SHIFT)
    violation = tl.where(posed, row_vector(data, slots.VIOLATION, cfg), 0.0)  # what may be violated has no multipliers
    near = (at.primal_worst <= 1) & (at.gap_worst <= 1)  # as near as need be
    accept = (largest(row_vector(data, slots.E, cfg) * violation) <= eta_out) | near | at_floor
    stalls = at.primal > number(data, slots.PRIMAL_K, cfg) * numbers.MU_STALL
    slow = at_floor & (near == 0) & stalls
    floor = tl.where(slow, shrunk(floor, numbers.MU_SHRINK, numbers.MU_LEAST), floor)
    if (accept == 0) | slow:
        mu_in = shrunk(mu_in, numbers.MU_SHRINK, floor)
        put_number(data, slots.MU_EQ, shrunk(mu_eq, numbers.MU_SHRINK, floor), cfg)
        put_number(data, slots.MU_IN, mu_in, cfg)
        put_number(data, slots.MU_FLOOR, floor, cfg)
    move_targets(data, accept, mu_in, cfg)
    if accept:
        z_k = tl.where(posed, row_vector(data, slots.Z, cfg), row_vector(data, slots.Z_K, cfg))
        put_rows(data, slots.Z_K, z_k, cfg)
    costs = (number(data, slots.H_SIZE, cfg) > 0) & (st.phase != numbers.Phase.SHIFT)
    if accept & (slow == 0) & (number(data, slots.IS_KEPT, cfg) != 0) & costs:
        try_rows(data, cfg)
    moved = column_vector(data, slots.X, cfg) - column_vector(data, slots.X_K, cfg)
    proximal = largest(st.rho * column_vector(data, slots.METRIC_X, cfg) * moved)
    sticky = (st.phase != numbers.Phase.SHIFT) & (proximal > at.dual * numbers.RHO_STICKY)
    sticky &= at.dual > at.dual_tolerance
    return tl.where(sticky, shrunk(st.rho, numbers.RHO_SHRINK, number(data, slots.RHO_FLOOR, cfg)), st.rho)


@triton.jit
def move_targets(data, accept, mu_in, cfg: tl.constexpr):
    """Tightens both targets where multipliers are accepted, and has them begin again from mu_in where not."""
    mu = at_most(mu_in, numbers.ETA_MU)
    tighter = number(data, slots.ETA_OUT, cfg) * power(mu, numbers.ETA_ACCEPT_POWER)
    anew = power(mu, numbers.ETA_REFUSE_POWER) * numbers.FIRST_ETA_OUT
    put_number(data, slots.ETA_OUT, tl.where(accept, tighter, anew), cfg)
    put_number(data, slots.ETA_IN, tl.where(accept, number(data, slots.ETA_IN, cfg) * mu, mu), cfg)


@triton.jit
def try_rows(data, cfg: tl.constexpr):
    """Begins a trial of the active rows, unless the penalties are as small as in one."""
    mu_eq, mu_in = number(data, slots.MU_EQ, cfg), number(data, slots.MU_IN, cfg)
    known = at_least(number(data, slots.MU_FLOOR, cfg), numbers.KNOWN_MU)
    if tl.maximum(mu_eq, mu_in) > known:
        put_number(data, slots.MU_EQ_K, mu_eq, cfg)
        put_number(data, slots.MU_IN_K, mu_in, cfg)
        put_number(data, slots.MU_EQ, tl.minimum(mu_eq, known), cfg)
        put_number(data, slots.MU_IN, tl.minimum(mu_in, known), cfg)
        put_number(data, slots.WRONG, -1.0, cfg)


@triton.jit(noinline=True)
def begin_from_start(data, phase, residual, cfg: tl.constexpr):
    """Tries the active rows of a start, but drops one that is far; its multipliers wait where the shift is sought."""
    tl.debug_barrier()
    if phase == numbers.Phase.AS_POSED:
        if residual > numbers.START_RESIDUAL:
            drop_start(data, cfg)
        else:
            try_rows(data, cfg)
            set_omega(data, phase, cfg)
    elif phase == numbers.Phase.SHIFT:
        soft = row_vector(data, slots.IS_HARD, cfg) == 0
        put_rows(data, slots.Z_K, tl.where(soft, row_vector(data, slots.Z_K, cfg), 0.0), cfg)
    else:
        put_number(data, slots.EXTRA, numbers.EXTRA_STEPS, cfg)


@triton.jit
def drop_start(data, cfg: tl.constexpr):
    """Begins at zero instead."""
    columns, rows = 0.0 * column_vector(data, slots.D, cfg), 0.0 * row_vector(data, slots.E, cfg)
    put_columns(data, slots.X, columns, cfg)
    put_columns(data, slots.HX, columns, cfg)
    put_rows(data, slots.GX, rows, cfg)
    put_rows(data, slots.Z, rows, cfg)
    put_rows(data, slots.Z_K, rows, cfg)
    centre(data, cfg)
    put_number(data, slots.IS_SETTLED, 0.0, cfg)


@triton.jit
def centre(data, cfg: tl.constexpr):
    """Moves the centre of the proximal term to x."""
    put_columns(data, slots.X_K, column_vector(data, slots.X, cfg), cfg)
    put_columns(data, slots.HX_K, column_vector(data, slots.HX, cfg), cfg)
    put_rows(data, slots.GX_K, row_vector(data, slots.GX, cfg), cfg)


@triton.jit
def suspect(data, at, push, cfg: tl.constexpr):
    """Whether the increment ``v = omega violation`` of the multipliers has ``G'v = 0``, as where no x is feasible."""
    increment = row_vector(data, slots.OMEGA, cfg) * row_vector(data, slots.VIOLATION, cfg)
    size = largest(increment / row_vector(data, slots.E, cfg))
    imbalance = largest(column_vector(data, slots.D, cfg) * push) / size
    balance = imbalance / number(data, slots.CALM, cfg)
    balanced = balance <= numbers.SUSPICION
    stagnant = at.primal >= number(data, slots.PRIMAL_K, cfg) * numbers.STAGNATION
    violated = (at.primal_worst > 1) & (balanced | (stagnant & (balance <= numbers.STAGNANT_SUSPICION)))
    later = at_most(number(data, slots.CALM, cfg) / numbers.CALM, 1.0)  # calm one alarm later
    gaping = (at.gap_worst > 1) & stagnant & (imbalance <= later * numbers.SUSPICION)
    return violated | (gaping & (at.primal_worst > numbers.SUSPECT_VIOLATION))


@triton.jit
def last_step(data, cfg: tl.constexpr):
    """The last step d of the centre [N], its size and its curvature ``d'Hd``, both scaled."""
    d = column_vector(data, slots.X, cfg) - column_vector(data, slots.X_K, cfg)
    Hd = column_vector(data, slots.HX, cfg) - column_vector(data, slots.HX_K, cfg)
    return d, largest(d / column_vector(data, slots.D, cfg)), number(data, slots.C_SCALE, cfg) * tl.sum(d * Hd, axis=0)


@triton.jit
def unbounded(data, st, at, cfg: tl.constexpr):
    """Whether the last step d of the centre is a ray: the objective falls along it without curvature, to no side."""
    lo, hi = sides(data, cfg)
    d, size, curvature = last_step(data, cfg)
    Gd = row_vector(data, slots.E, cfg) * (row_vector(data, slots.GX, cfg) - row_vector(data, slots.GX_K, cfg))
    up, down = tl.where(Gd > 0, Gd, 0.0), tl.where(Gd < 0, Gd, 0.0)
    approach = tl.where(tl.abs(hi) == INF, 0.0, up) - tl.where(tl.abs(lo) == INF, 0.0, down)
    flat = tl.abs(curvature) <= number(data, slots.H_SIZE, cfg) * size * size * numbers.FLAT
    predicted = tl.sum(d * (st.rho * column_vector(data, slots.METRIC_X, cfg) * d), axis=0)
    falls = tl.sum(column_vector(data, slots.COST, cfg) * d, axis=0) < -(predicted * numbers.RAY)
    leaves = size >= at.size_of_x * numbers.RAY_LENGTH
    return flat & falls & leaves & (at.dual_worst > 1) & (largest(approach) <= size * numbers.RECESSION)


@triton.jit
def bend(data, at, cfg: tl.constexpr):
    """Adds to H what a step of the centre with negative curvature lacks; returns whether that is too much."""
    d, size, curvature = last_step(data, cfg)
    scaled = d / column_vector(data, slots.D, cfg)
    curvature /= tl.sum(scaled * scaled, axis=0)
    h, before = number(data, slots.H_SIZE, cfg), number(data, slots.BEND, cfg)
    noise = h * tl.maximum(size, at.size_of_x) / size * numbers.FLAT
    bent, after = curvature < -noise, before - curvature * numbers.BEND
    if bent:
        more = (after - before) * column_vector(data, slots.METRIC_X, cfg)
        Hx = column_vector(data, slots.HX, cfg) + more * column_vector(data, slots.X, cfg)
        put_columns(data, slots.HX, Hx, cfg)  # the centre moves there next
        put_number(data, slots.BEND, after, cfg)
    return bent & (after > h * numbers.BEND_CEILING)


@triton.jit
def hard_violation(data, cfg: tl.constexpr):
    """The largest violation of a hard row."""
    hard = row_vector(data, slots.IS_HARD, cfg) != 0
    return largest(tl.where(hard, row_vector(data, slots.VIOLATION, cfg), 0.0))


@triton.jit
def hard_residual(data, cfg: tl.constexpr):
    """How far the hard rows are from holding, and from the side that their multipliers push against."""
    low, high = sides(data, cfg)
    hard, z = row_vector(data, slots.IS_HARD, cfg) != 0, row_vector(data, slots.Z, cfg)
    slack = row_vector(data, slots.GX, cfg) - tl.where(z > 0, high, low)
    slack = tl.where(z == 0, row_vector(data, slots.VIOLATION, cfg), slack)
    return largest(tl.where(hard, slack, 0.0))


@triton.jit
def shift_found(data, st, at, push, cfg: tl.constexpr):
    """Whether x is feasible, or the shift s has ``G'(w s) = 0``; whether that is in doubt, as rounding leaves much."""
    w, violation = row_vector(data, slots.SHIFT_WEIGHT, cfg), row_vector(data, slots.VIOLATION, cfg)
    rows, push = row_vector(data, slots.E, cfg), push / number(data, slots.SHIFT_UNIT, cfg)
    kept = hard_residual(data, cfg) <= at.primal_tolerance * numbers.SHIFT_FLOOR
    scaled, size = largest(column_vector(data, slots.D, cfg) * push), largest(w * violation / rows)
    terms = (
        tl.where(violation != 0, rounding_of_rows(data, at.size_of_x, cfg), 0.0) + tl.abs(violation) * numbers.ROUNDING
    )
    rounding = tl.sum(w * terms / rows, axis=0)
    stagnant = at.primal >= number(data, slots.PRIMAL_K, cfg) * numbers.STAGNATION
    stagnant &= (st.steps > number(data, slots.ENTERED, cfg) + 1) & (st.rho < number(data, slots.FIRST_RHO, cfg))
    near = (at.primal_worst <= numbers.SHIFT_NEAR) & (st.rho / numbers.SHIFT_FIRST_RHO <= 1)
    rounded = stagnant & (scaled <= rounding)
    rounded &= (rounding <= size) | (near & (rounding <= size * numbers.SHIFT_NEAR))
    flat = largest(push) <= number(data, slots.EPS_ABS, cfg) * numbers.SHIFT_ACCURACY
    balanced = (scaled <= size * numbers.SHIFT_BALANCE) & flat
    doubtful = (number(data, slots.CALM, cfg) == 1) & (scaled > size * numbers.SHIFT_DOUBT)
    doubtful &= (near == 0) | (scaled > size * numbers.SHIFT_NEAR_DOUBT)
    certain = (at.primal_worst <= numbers.SHIFT_FEASIBLE) | (balanced & kept)
    rounded &= kept & (certain == 0)
    return certain | (rounded & (doubtful == 0)), rounded & doubtful


@triton.jit
def move_sides(data, at, found, cfg: tl.constexpr):
    """Moves the sides so that an x that is found is feasible; returns whether some row is shifted.

    A violation that is next to none is no shift: the sides give way to it silently, but not at the first alarm that
    finds x feasible.
    """
    low, high = sides(data, cfg)
    violation = row_vector(data, slots.VIOLATION, cfg)
    feasible = at.primal_worst <= numbers.SHIFT_FEASIBLE
    false_alarm = feasible & (number(data, slots.CALM, cfg) == 1)
    moved = tl.where(found & (false_alarm == 0), violation, 0.0)
    small = tl.abs(violation) <= at.primal_tolerance * numbers.SHIFT_FLOOR
    s = tl.where(small | (row_vector(data, slots.IS_HARD, cfg) != 0), 0.0, moved)
    s = tl.where(feasible, 0.0, s)
    rest, fixed = moved - s, low == high
    put_rows(data, slots.LOW, low + tl.where(fixed | (rest < 0), rest, 0.0), cfg)
    put_rows(data, slots.HIGH, high + tl.where(fixed | (rest > 0), rest, 0.0), cfg)
    put_rows(data, slots.S, row_vector(data, slots.S, cfg) + s, cfg)
    shift_sides(data, s, cfg)
    return some(s != 0)


@triton.jit
def fix_pressing_rows(data, cfg: tl.constexpr):
    """Fixes the hard rows that press on the shift, as they do at every feasible point."""
    low, high = sides(data, cfg)
    hard, E = row_vector(data, slots.IS_HARD, cfg) != 0, row_vector(data, slots.E, cfg)
    metric_shift = number(data, slots.SHIFT_UNIT, cfg) * row_vector(data, slots.SHIFT_WEIGHT, cfg)
    size = largest(tl.where(hard, 0.0, metric_shift * row_vector(data, slots.VIOLATION, cfg) / E))
    presses = hard & (tl.abs(row_vector(data, slots.Z, cfg) / E) > size * numbers.HARD_PRESSING)
    Gx = row_vector(data, slots.GX, cfg)
    put_rows(data, slots.LOW, tl.where(presses, Gx, low), cfg)
    put_rows(data, slots.HIGH, tl.where(presses, Gx, high), cfg)


@triton.jit
def end_search(data, at, found, cfg: tl.constexpr):
    """Moves the sides, or gives the multipliers a ray where the rows are inconsistent; returns whether they are."""
    shifted = move_sides(data, at, found, cfg)
    if shifted:
        fix_pressing_rows(data, cfg)
    else:
        calm = number(data, slots.CALM, cfg) * numbers.CALM
        put_number(data, slots.CALM, tl.where(found, calm, calm * numbers.CALM * numbers.CALM), cfg)
    infeasible = (found == 0) & (hard_violation(data, cfg) > at.primal_tolerance)
    infeasible |= shifted & (number(data, slots.CLOSEST_FEASIBLE, cfg) == 0)
    if infeasible:
        w, hard = row_vector(data, slots.SHIFT_WEIGHT, cfg), row_vector(data, slots.IS_HARD, cfg) != 0
        z = row_vector(data, slots.Z, cfg) / number(data, slots.SHIFT_UNIT, cfg)
        put_rows(data, slots.Z, tl.where(hard, z, w * row_vector(data, slots.VIOLATION, cfg)), cfg)
    return infeasible


@triton.jit
def enter(data, phase, steps, cfg: tl.constexpr):
    """Begins a phase at the present x with no multipliers but those of a start; returns the first rho."""
    kept = (number(data, slots.ENTERED, cfg) == 0) & (steps <= 1) & some(row_vector(data, slots.S, cfg) != 0)
    z_k = tl.where(kept, row_vector(data, slots.Z_K, cfg), 0.0)
    put_rows(data, slots.Z, z_k, cfg)
    put_rows(data, slots.Z_K, z_k, cfg)
    put_number(data, slots.WRONG, 0.0, cfg)
    put_number(data, slots.ENTERED, steps, cfg)
    return set_penalties(data, phase, cfg)


@triton.jit
def set_penalties(data, phase, cfg: tl.constexpr):
    """Writes the first penalties and targets of a phase; returns the first rho."""
    mu_eq, searching = number(data, slots.FIRST_MU_EQ, cfg), phase == numbers.Phase.SHIFT
    known = tl.minimum(at_least(number(data, slots.MU_FLOOR, cfg), numbers.KNOWN_MU), mu_eq)
    put_number(data, slots.MU_EQ, tl.where(phase == numbers.Phase.SHIFTED, known, mu_eq), cfg)
    put_number(data, slots.MU_IN, number(data, slots.FIRST_MU_IN, cfg), cfg)
    put_number(data, slots.ETA_OUT, numbers.FIRST_ETA_OUT, cfg)
    put_number(data, slots.ETA_IN, numbers.FIRST_ETA_IN, cfg)
    if searching:
        put_number(data, slots.ETA_IN, numbers.SHIFT_INNER, cfg)
    first = tl.full((), numbers.SHIFT_FIRST_RHO, tl.float64)
    if some(row_vector(data, slots.IS_HARD, cfg) != 0):
        first = tl.full((), numbers.SHIFT_FIRST_RHO_HARD, tl.float64)
    return tl.where(searching, first, number(data, slots.FIRST_RHO, cfg))
