"""The first iterate of one problem, and all that is written before it."""

import triton
import triton.language as tl

from .. import numbers
from . import slots
from .outer import centre, set_penalties
from .problem import State, set_omega, with_status
from .products import products_at_x
from .scaling import measure_scaling, weigh_beside_hard_rows
from .scratch import column_vector, number, put_columns, put_number, put_rows, row_vector
from .vectors import INF, some


@triton.jit
def begin(data, x, z, s, equilibrate, cfg: tl.constexpr):
    """The first iterate, in scratch, and the state there: a start that was shifted first asks whether it still is.

    Without a start nothing is solved before a step has had a factor.
    """
    measure_scaling(data, equilibrate, cfg)
    weigh_beside_hard_rows(data, cfg)
    begin_at(data, x, z, cfg)
    centre(data, cfg)
    st = first_state(data, tl.where(some(s != 0), numbers.Phase.SHIFT, numbers.Phase.AS_POSED), cfg)
    put_number(data, slots.IS_SETTLED, (some(x != 0) | some(z != 0)).to(tl.float64), cfg)
    set_omega(data, st.phase, cfg)
    return with_status(st, tl.where(usable(data, cfg), numbers.RUNNING, numbers.Status.NONFINITE_INPUT))


@triton.jit
def begin_at(data, x, z, cfg: tl.constexpr):
    """Writes the iterate and its products, those of dx = 0 too: NaN where a matrix is not finite."""
    put_columns(data, slots.X, x, cfg)
    put_rows(data, slots.Z, z, cfg)
    put_rows(data, slots.Z_K, z, cfg)
    put_columns(data, slots.DX, 0.0 * column_vector(data, slots.DX, cfg), cfg)
    products_at_x(data, cfg)


@triton.jit
def usable(data, cfg: tl.constexpr):
    """As the reference's usable: whether all numbers are finite, absent sides aside; after :func:`begin_at`."""
    g, w = column_vector(data, slots.COST, cfg), row_vector(data, slots.SHIFT_WEIGHT, cfg)
    lo, hi = row_vector(data, slots.LO, cfg), row_vector(data, slots.HI, cfg)
    matrices = some(row_vector(data, slots.GDX, cfg) != 0) | some(column_vector(data, slots.HDX, cfg) != 0)
    sides = some((lo - lo != 0) & (lo != -INF)) | some((hi - hi != 0) & (hi != INF))
    weights = some((w > 0) == 0) | some(w - w != 0)
    return (matrices | some(g - g != 0) | sides | weights) == 0


@triton.jit
def first_state(data, phase, cfg: tl.constexpr):
    """The state at the beginning, in any phase (int32)."""
    put_number(data, slots.PRIMAL_K, INF, cfg)
    put_number(data, slots.EXTRA, 0.0, cfg)
    put_number(data, slots.ENTERED, 0.0, cfg)
    put_number(data, slots.BEND, 0.0, cfg)
    put_number(data, slots.IS_KEPT, 0.0, cfg)
    put_number(data, slots.WRONG, 0.0, cfg)
    put_number(data, slots.CALM, 1.0, cfg)
    put_number(data, slots.MU_FLOOR, numbers.MU_FLOOR, cfg)
    h = number(data, slots.H_SIZE, cfg)
    put_number(data, slots.RHO_FLOOR, tl.where((h > 0) & (h < 1), h, 1.0) * numbers.RHO_FLOOR, cfg)
    return State(phase, phase * 0 + numbers.RUNNING, phase * 0, set_penalties(data, phase, cfg))
