"""How far the present point is from optimal, in the units of the data, and whether the inner loop has ended."""

from typing import Any, NamedTuple

import triton
import triton.language as tl

from .. import numbers
from . import slots
from .newton import pull_of_x
from .problem import sides
from .products import columns_of
from .scratch import column_vector, number, put_rows, row_vector
from .vectors import clamped, largest, some


class Measure(NamedTuple):
    """Where a problem stands: scalars."""

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
    """Residuals, tolerances, and whether the inner loop has ended; writes the violation ``Gx - clamp(Gx, lo, hi)``."""
    tl.debug_barrier()
    lo, hi = sides(data, cfg)
    x, Hx = column_vector(data, slots.X, cfg), column_vector(data, slots.HX, cfg)
    g, Gz = column_vector(data, slots.COST, cfg), columns_of(data, slots.Z, cfg)
    z, Gx = row_vector(data, slots.Z, cfg), row_vector(data, slots.GX, cfg)
    eps_abs, eps_rel = number(data, slots.EPS_ABS, cfg), number(data, slots.EPS_REL, cfg)
    violation = Gx - clamped(Gx, lo, hi)
    put_rows(data, slots.VIOLATION, violation, cfg)
    primal, dual = largest(violation), largest(Hx + g + Gz)
    gap = tl.sum(tl.abs(z) * tl.abs(tl.where(z == 0, 0.0, Gx - tl.where(z > 0, hi, lo))), axis=0)
    primal_tolerance = eps_abs + eps_rel * largest(Gx)
    dual_tolerance = eps_abs + eps_rel * tl.maximum(largest(Hx), tl.maximum(largest(g), largest(Gz)))
    gap_tolerance = eps_abs + tl.maximum(eps_abs, eps_rel) * tl.abs(tl.sum(x * (0.5 * Hx + g), axis=0))
    hold = (primal <= primal_tolerance) & (dual <= dual_tolerance) & (gap <= gap_tolerance)
    worst = tl.maximum(tl.maximum(primal / primal_tolerance, dual / dual_tolerance), gap / gap_tolerance)
    shifted = some(row_vector(data, slots.S, cfg) != 0)
    ended = inner_loop_has_ended(data, st, Gz, cfg)
    return Measure(primal, dual, gap, primal_tolerance, dual_tolerance, worst, hold, ended, shifted)


@triton.jit
def inner_loop_has_ended(data, st, Gz, cfg: tl.constexpr):
    """Whether the gradient of the augmented Lagrangian at (x, z) is small enough, given G'z [N]."""
    lo, hi = sides(data, cfg)
    c, scale = number(data, slots.C_SCALE, cfg), row_vector(data, slots.E, cfg)
    z, omega = row_vector(data, slots.Z, cfg), row_vector(data, slots.OMEGA, cfg)
    v = row_vector(data, slots.GX, cfg) + row_vector(data, slots.Z_K, cfg) / omega
    inner_primal = v - clamped(v, lo, hi) - z / omega
    inner_dual = pull_of_x(data, st, cfg) + Gz
    scaled = tl.maximum(largest(c * column_vector(data, slots.D, cfg) * inner_dual), largest(scale * inner_primal))
    absolute = tl.maximum(largest(inner_dual), largest(inner_primal))
    rounding = largest(c * z / scale) * numbers.INNER_ROUNDING
    floor = number(data, slots.EPS_ABS, cfg) * numbers.INNER_FLOOR
    return (scaled <= tl.maximum(number(data, slots.ETA_IN, cfg), rounding)) | (absolute <= floor)


@triton.jit
def measure_push(data, st, cfg: tl.constexpr):
    """``G' (omega violation)``, with z for the hard rows of phase SHIFT: [N]."""
    push = row_vector(data, slots.OMEGA, cfg) * row_vector(data, slots.VIOLATION, cfg)
    firm = (row_vector(data, slots.IS_HARD, cfg) != 0) & (st.phase == numbers.Phase.SHIFT)
    put_rows(data, slots.PULL, tl.where(firm, row_vector(data, slots.Z, cfg), push), cfg)
    return columns_of(data, slots.PULL, cfg)
