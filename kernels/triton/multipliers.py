"""The multipliers of the rows W that an infeasible problem shifts, made unique as in the reference's multipliers.py.

Where those of least norm have a wrong sign, the dual of the problem with signs is a phase of its own, DUAL, of the
Newton steps. It has no H, and is divided by c like all else.
"""

import triton
import triton.language as tl

from .. import numbers
from . import slots
from .least_squares import fit, shifted_rows
from .measure import measure
from .newton import newton_step
from .problem import as_posed, shift_sides
from .products import columns_of
from .scratch import column_vector, number, put_columns, put_number, put_rows, row_vector
from .start import begin_at, first_state
from .vectors import INF, largest, some


@triton.jit(noinline=True)
def settle_multipliers(data, cfg: tl.constexpr):
    """Gives a shifted problem, whose answer is in x, z and s, its unique multipliers.

    They take the place of those of the answer where they leave the residuals within the tolerances.
    """
    tl.debug_barrier()
    as_posed(data, cfg)
    shifted_rows(data, cfg)
    z, w = row_vector(data, slots.Z, cfg), row_vector(data, slots.SHIFT_WEIGHT, cfg)
    put_rows(data, slots.TARGET, z / w, cfg)
    fit(data, slots.IN_W, cfg)
    in_W, w = row_vector(data, slots.IN_W, cfg) != 0, row_vector(data, slots.SHIFT_WEIGHT, cfg)
    z = tl.where(in_W, w * row_vector(data, slots.FITTED, cfg), row_vector(data, slots.Z, cfg))
    put_rows(data, slots.Q, z, cfg)
    inequality = row_vector(data, slots.LO, cfg) != row_vector(data, slots.HI, cfg)
    found = some(in_W & inequality & (z * row_vector(data, slots.S_W, cfg) < 0)) == 0
    if found == 0:
        found = solve_dual(data, cfg)
    if found:
        keep_if_optimal(data, cfg)


@triton.jit
def begin_dual(data, cfg: tl.constexpr):
    """The dual as a problem without H, started at beta, with its right-hand side ``W'z`` in slot RIGHT."""
    in_W, s = row_vector(data, slots.IN_W, cfg) != 0, row_vector(data, slots.S_W, cfg)
    equality = row_vector(data, slots.LO, cfg) == row_vector(data, slots.HI, cfg)
    unit = number(data, slots.SHIFT_UNIT, cfg)
    put_rows(data, slots.LOW, tl.where(in_W & (equality | (s < 0)), 0.0, -INF), cfg)
    put_rows(data, slots.HIGH, tl.where(in_W & (equality | (s > 0)), 0.0, INF), cfg)
    put_rows(data, slots.OMEGA, unit * row_vector(data, slots.SHIFT_WEIGHT, cfg), cfg)
    put_rows(data, slots.PULL, tl.where(in_W, row_vector(data, slots.Q, cfg), 0.0), cfg)
    r, beta = columns_of(data, slots.PULL, cfg), column_vector(data, slots.BETA, cfg)
    put_columns(data, slots.RIGHT, r, cfg)
    put_columns(data, slots.COST, -unit * r, cfg)
    put_columns(data, slots.X_K, beta, cfg)
    begin_at(data, beta, 0.0 * s, cfg)


@triton.jit
def solve_dual(data, cfg: tl.constexpr):
    """Writes the multipliers of W to slot Q, and whether they were found; takes the place of the state."""
    begin_dual(data, cfg)
    st = first_state(data, tl.full((), numbers.Phase.DUAL, tl.int32), cfg)
    put_number(data, slots.MU_IN, 1.0, cfg)  # the rows have their own weights
    unit, eps_abs = number(data, slots.SHIFT_UNIT, cfg), number(data, slots.EPS_ABS, cfg)
    found = st.steps > 0
    while (found == 0) & (st.steps < numbers.DUAL_STEPS):
        st = newton_step(data, st, cfg)
        put_columns(data, slots.X_K, column_vector(data, slots.X, cfg), cfg)
        rest = columns_of(data, slots.Z, cfg) / unit - column_vector(data, slots.RIGHT, cfg)
        rounding = largest(row_vector(data, slots.Z, cfg)) / unit * numbers.DUAL_ROUNDING
        found = largest(rest) <= eps_abs * numbers.DUAL_ACCURACY + rounding
    signed, in_W = row_vector(data, slots.Z, cfg) / unit, row_vector(data, slots.IN_W, cfg) != 0
    put_rows(data, slots.Q, tl.where(in_W, signed, row_vector(data, slots.Q, cfg)), cfg)
    return found


@triton.jit(noinline=True)
def keep_if_optimal(data, cfg: tl.constexpr):
    """Makes the multipliers in slot Q those of the answer, where its residuals stay within the tolerances."""
    tl.debug_barrier()
    as_posed(data, cfg)
    shift_sides(data, row_vector(data, slots.S, cfg), cfg)
    begin_at(data, column_vector(data, slots.BEST_X, cfg), row_vector(data, slots.Q, cfg), cfg)
    at = measure(data, first_state(data, tl.full((), numbers.Phase.SHIFTED, tl.int32), cfg), cfg)
    if at.hold:
        put_rows(data, slots.BEST_Z, row_vector(data, slots.Z, cfg), cfg)
        put_number(data, slots.BEST_DUAL, at.dual, cfg)
        put_number(data, slots.BEST_GAP, at.gap, cfg)
