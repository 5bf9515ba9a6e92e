"""Least squares in the rows W that an infeasible problem shifts, as in the reference's least_squares.py."""

import triton
import triton.language as tl

from .. import numbers
from . import slots
from .problem import count_rows, sides
from .products import columns_of, row_product
from .scaling import set_shift_unit
from .scratch import column_vector, number, put_columns, put_rows, row_vector
from .system import factor, solution
from .vectors import largest, some


@triton.jit
def pulled(data, rest, cfg: tl.constexpr):
    """``W'diag(w) rest``: [M] -> [N]."""
    put_rows(data, slots.PULL, row_vector(data, slots.ROW_WEIGHT, cfg) * rest, cfg)
    return columns_of(data, slots.PULL, cfg)


@triton.jit
def fit(data, on: tl.constexpr, cfg: tl.constexpr):
    """``argmin_b sum_W w_i (W b - t)_i^2``, t in slot TARGET, 1 for the rows W in slot ``on``: by proximal passes.

    Writes b to BETA and G b to FITTED.
    """
    w = row_vector(data, slots.SHIFT_WEIGHT, cfg) * number(data, slots.SHIFT_UNIT, cfg)
    put_rows(data, slots.ROW_WEIGHT, row_vector(data, on, cfg) * w, cfg)
    residual = pulled(data, row_vector(data, slots.TARGET, cfg), cfg)
    put_columns(data, slots.BETA, 0.0 * residual, cfg)
    put_rows(data, slots.FITTED, 0.0 * w, cfg)
    if some(residual != 0):
        put_columns(data, slots.RIGHT, residual, cfg)
        fit_again(data, cfg)


@triton.jit(noinline=True)
def fit_again(data, cfg: tl.constexpr):
    """The passes, with one factor a little damped: each solves for what is left, at first what is in slot RIGHT."""
    tl.debug_barrier()
    residual = column_vector(data, slots.RIGHT, cfg)
    zero = 0.0 * number(data, slots.SHIFT_UNIT, cfg)
    factor(data, zero, zero + numbers.FIT_DAMPING, cfg)
    goal = largest(residual) * numbers.FIT_ACCURACY
    passes = 0
    while (passes < numbers.FIT_PASSES) & (largest(residual) > goal):
        beta = column_vector(data, slots.BETA, cfg) + solution(data, residual, cfg)
        put_columns(data, slots.BETA, beta, cfg)
        row_product(data, slots.BETA, slots.FITTED, cfg)
        rest = row_vector(data, slots.TARGET, cfg) - row_vector(data, slots.FITTED, cfg)
        residual = pulled(data, rest, cfg)
        passes += 1


@triton.jit
def shifted_rows(data, cfg: tl.constexpr):
    """Given x and s, marks the shifted rows and the equalities of an infeasible problem in IN_W; S_W gets the shifts.

    Hard rows that press on the shift are among them, see the reference. Returns whether the problem is infeasible.
    """
    low, high = sides(data, cfg)
    s = row_vector(data, slots.S, cfg)
    hard, infeasible = row_vector(data, slots.IS_HARD, cfg) != 0, some(s != 0)
    in_W = infeasible & (hard == 0) & ((low == high) | (s != 0))
    put_rows(data, slots.IN_W, in_W.to(tl.float64), cfg)
    put_rows(data, slots.S_W, s, cfg)
    if infeasible & some(hard):
        add_pressing_rows(data, cfg)
    return infeasible


@triton.jit
def add_pressing_rows(data, cfg: tl.constexpr):
    """Adds the hard rows that press on the shift; changes the weights and their unit."""
    low, high = sides(data, cfg)
    row_product(data, slots.X, slots.FITTED, cfg)
    Gx, w = row_vector(data, slots.FITTED, cfg), row_vector(data, slots.SHIFT_WEIGHT, cfg)
    s, in_W = row_vector(data, slots.S_W, cfg), row_vector(data, slots.IN_W, cfg)
    size = largest(w * s)
    reach = number(data, slots.EPS_ABS, cfg) * numbers.HARD_TOUCHING
    near = tl.minimum(tl.abs(Gx - low), tl.abs(high - Gx)) <= reach
    touches = near & (row_vector(data, slots.IS_HARD, cfg) != 0)
    heaviest = largest(tl.where(tl.arange(0, cfg.M) < count_rows(data, cfg), w, 0.0))
    put_rows(data, slots.SHIFT_WEIGHT, tl.where(touches, heaviest * numbers.HARD_WEIGHT, w), cfg)
    put_rows(data, slots.IN_W, tl.where(touches, 1.0, in_W), cfg)
    put_rows(data, slots.TARGET, -s, cfg)
    set_shift_unit(data, cfg)
    fit(data, slots.IN_W, cfg)
    pressed = row_vector(data, slots.FITTED, cfg)
    presses = tl.abs(row_vector(data, slots.SHIFT_WEIGHT, cfg) * pressed) > size * numbers.HARD_PRESSING
    put_rows(data, slots.S_W, tl.where(touches, tl.where(presses, pressed, 0.0), s), cfg)
    put_rows(data, slots.IN_W, tl.where(touches, presses.to(tl.float64), in_W), cfg)
