"""Least squares in the rows W that an infeasible problem shifts, as in the reference's least_squares.py."""

import triton
import triton.language as tl

from ..reference import least_squares as _least_squares
from .problem import (
    BETA,
    EPS_ABS,
    FITTED,
    HARD,
    IN_W,
    S_W,
    TARGET,
    UNIT,
    R,
    S,
    T,
    U,
    W,
    X,
    column_vector,
    count_rows,
    largest,
    number,
    put_columns,
    put_rows,
    row_vector,
    sides,
    some,
)
from .products import columns_of, row_product
from .scaling import set_unit
from .system import factor, solution

DAMPING = tl.constexpr(_least_squares.DAMPING)
PASSES = tl.constexpr(_least_squares.PASSES)
ACCURACY = tl.constexpr(_least_squares.ACCURACY)
HEAVY = tl.constexpr(_least_squares.HARD)
PRESSING = tl.constexpr(_least_squares.PRESSING)


@triton.jit
def pulled(data, rest, cfg: tl.constexpr):
    """``W'diag(w) rest``: [M] -> [N]."""
    put_rows(data, U, row_vector(data, T, cfg) * rest, cfg)
    return columns_of(data, U, cfg)


@triton.jit
def fit(data, cfg: tl.constexpr):
    """``argmin_b sum_W w_i (W b - t)_i^2``, t in slot TARGET: writes b to BETA and W b to FITTED; proximal passes."""
    put_rows(data, T, row_vector(data, IN_W, cfg) * row_vector(data, W, cfg) * number(data, UNIT, cfg), cfg)
    residual = pulled(data, row_vector(data, TARGET, cfg), cfg)
    put_columns(data, BETA, 0.0 * residual, cfg)
    put_rows(data, FITTED, 0.0 * row_vector(data, T, cfg), cfg)
    if some(residual != 0):
        put_columns(data, R, residual, cfg)
        fit_again(data, cfg)


@triton.jit(noinline=True)
def fit_again(data, cfg: tl.constexpr):
    """The passes: each takes ``K^-1`` of what is left (at first in slot R), with K of slot T and a little damping."""
    residual = column_vector(data, R, cfg)
    zero = 0.0 * number(data, UNIT, cfg)
    factor(data, zero, zero + DAMPING, cfg)
    goal = largest(residual) * ACCURACY
    passes = 0
    while (passes < PASSES) & (largest(residual) > goal):
        put_columns(data, BETA, column_vector(data, BETA, cfg) + solution(data, residual, cfg), cfg)
        row_product(data, BETA, FITTED, cfg)
        residual = pulled(data, row_vector(data, TARGET, cfg) - row_vector(data, FITTED, cfg), cfg)
        passes += 1


@triton.jit
def find_shifted_rows(data, cfg: tl.constexpr):
    """Given x and s, marks the shifted rows and the equalities of an infeasible problem in IN_W; S_W gets the shifts.

    Hard rows that press on the shift (``W'(w s) + T'lambda = 0``) are among them, with a weight so large that their
    ``w s = lambda`` is finite and their shift is next to nothing. Returns whether the problem is infeasible.
    """
    low, high = sides(data, cfg)
    s = row_vector(data, S, cfg)
    hard, infeasible = row_vector(data, HARD, cfg) != 0, some(s != 0)
    in_W = infeasible & (hard == 0) & ((low == high) | (s != 0))
    put_rows(data, IN_W, in_W.to(tl.float64), cfg)
    put_rows(data, S_W, s, cfg)
    if infeasible & some(hard):
        add_pressing_rows(data, cfg)
    return infeasible


@triton.jit
def add_pressing_rows(data, cfg: tl.constexpr):
    """Adds the hard rows that press on the shift; changes the weights and their unit."""
    low, high = sides(data, cfg)
    row_product(data, X, FITTED, cfg)
    Gx, w, s = row_vector(data, FITTED, cfg), row_vector(data, W, cfg), row_vector(data, S_W, cfg)
    size = largest(w * s)
    near = tl.minimum(tl.abs(Gx - low), tl.abs(high - Gx)) <= 10 * number(data, EPS_ABS, cfg)
    touches = near & (row_vector(data, HARD, cfg) != 0)
    heaviest = largest(tl.where(tl.arange(0, cfg.M) < count_rows(data, cfg), w, 0.0))
    put_rows(data, W, tl.where(touches, heaviest * HEAVY, w), cfg)
    put_rows(data, IN_W, tl.where(touches, 1.0, row_vector(data, IN_W, cfg)), cfg)
    put_rows(data, TARGET, -s, cfg)
    set_unit(data, cfg)
    fit(data, cfg)
    pressed = row_vector(data, FITTED, cfg)
    presses = tl.abs(row_vector(data, W, cfg) * pressed) > size * PRESSING
    put_rows(data, S_W, tl.where(touches, tl.where(presses, pressed, 0.0), s), cfg)
    put_rows(data, IN_W, tl.where(touches & (presses == 0), 0.0, row_vector(data, IN_W, cfg)), cfg)
