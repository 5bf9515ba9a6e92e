"""The multipliers of the rows W that an infeasible problem shifts, made unique as in the reference's multipliers.py.

Where those of least norm have a wrong sign, the dual of the problem with signs is a phase of its own, DUAL, of the
Newton steps. It has no H, and is divided by c like all else.
"""

import triton
import triton.language as tl

from ..reference import multipliers as _multipliers
from .least_squares import find_shifted_rows, fit
from .newton import newton_step
from .outer import measure
from .problem import (
    BEST,
    BEST_X,
    BEST_Z,
    BETA,
    DUAL,
    EPS_ABS,
    FITTED,
    HI,
    HIGH,
    IN_W,
    INF,
    LO,
    LOW,
    OMEGA,
    S_W,
    SHIFTED,
    TARGET,
    UNIT,
    X_K,
    Z_K,
    G,
    Q,
    R,
    S,
    U,
    W,
    X,
    Z,
    column_vector,
    largest,
    number,
    put_columns,
    put_number,
    put_rows,
    row_vector,
    shift_sides,
    some,
)
from .products import columns_of
from .start import as_posed, begin_at_x, first_state

STEPS = tl.constexpr(_multipliers.STEPS)
ACCURACY = tl.constexpr(_multipliers.ACCURACY)
ROUNDING = tl.constexpr(_multipliers.ROUNDING)


@triton.jit(noinline=True)
def settle_multipliers(data, cfg: tl.constexpr):
    """Gives a shifted problem, whose answer is in x, z and s, its unique multipliers.

    They take the place of those of the answer where they leave the residuals within the tolerances.
    """
    find_shifted_rows(data, cfg)
    put_rows(data, TARGET, row_vector(data, Z, cfg) / row_vector(data, W, cfg), cfg)
    fit(data, cfg)
    in_W, w = row_vector(data, IN_W, cfg) != 0, row_vector(data, W, cfg)
    z = tl.where(in_W, w * row_vector(data, FITTED, cfg), row_vector(data, Z, cfg))
    put_rows(data, Q, z, cfg)
    found = (
        some(in_W & (row_vector(data, LO, cfg) != row_vector(data, HI, cfg)) & (z * row_vector(data, S_W, cfg) < 0))
        == 0
    )
    if found == 0:
        found = solve_dual(data, cfg)
    if found:
        keep_if_optimal(data, cfg)


@triton.jit
def begin_dual(data, cfg: tl.constexpr):
    """The dual as a problem without H, started at beta, with its right-hand side ``W'z`` in slot R."""
    in_W, s = row_vector(data, IN_W, cfg) != 0, row_vector(data, S_W, cfg)
    equality = row_vector(data, LO, cfg) == row_vector(data, HI, cfg)
    unit = number(data, UNIT, cfg)
    put_rows(data, LOW, tl.where(in_W & (equality | (s < 0)), 0.0, -INF), cfg)
    put_rows(data, HIGH, tl.where(in_W & (equality | (s > 0)), 0.0, INF), cfg)
    put_rows(data, OMEGA, unit * row_vector(data, W, cfg), cfg)
    put_rows(data, U, tl.where(in_W, row_vector(data, Q, cfg), 0.0), cfg)
    r = columns_of(data, U, cfg)
    put_columns(data, R, r, cfg)
    put_columns(data, G, -unit * r, cfg)
    beta, z = column_vector(data, BETA, cfg), 0.0 * s
    put_columns(data, X, beta, cfg)
    put_columns(data, X_K, beta, cfg)
    put_rows(data, Z, z, cfg)
    put_rows(data, Z_K, z, cfg)
    begin_at_x(data, cfg)


@triton.jit
def solve_dual(data, cfg: tl.constexpr):
    """Writes the multipliers of W to slot Q, and whether they were found; takes the place of the state."""
    begin_dual(data, cfg)
    st = first_state(data, tl.full((), DUAL, tl.int32), cfg)
    unit, eps_abs = number(data, UNIT, cfg), number(data, EPS_ABS, cfg)
    found = st.steps > 0
    while (found == 0) & (st.steps < STEPS):
        st = newton_step(data, st, cfg)
        put_columns(data, X_K, column_vector(data, X, cfg), cfg)
        rest = columns_of(data, Z, cfg) / unit - column_vector(data, R, cfg)
        goal = eps_abs * ACCURACY + largest(row_vector(data, Z, cfg)) / unit * ROUNDING
        found = largest(rest) <= goal
    z = tl.where(row_vector(data, IN_W, cfg) != 0, row_vector(data, Z, cfg) / unit, row_vector(data, Q, cfg))
    put_rows(data, Q, z, cfg)
    return found


@triton.jit
def keep_if_optimal(data, cfg: tl.constexpr):
    """Makes the multipliers in slot Q those of the answer, where its residuals stay within the tolerances."""
    put_columns(data, X, column_vector(data, BEST_X, cfg), cfg)
    put_rows(data, Z, row_vector(data, Q, cfg), cfg)
    as_posed(data, cfg)
    shift_sides(data, row_vector(data, S, cfg), cfg)
    begin_at_x(data, cfg)
    at = measure(data, first_state(data, tl.full((), SHIFTED, tl.int32), cfg), cfg)
    if at.hold:
        put_rows(data, BEST_Z, row_vector(data, Z, cfg), cfg)
        put_number(data, BEST + 1, at.dual, cfg)
        put_number(data, BEST + 2, at.gap, cfg)
