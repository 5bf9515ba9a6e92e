"""How far the present point is from optimal, in the units of the data, and from what the inner loop is to reach."""

from typing import Any, NamedTuple

import triton
import triton.language as tl

from .. import numbers
from . import slots
from .newton import pull_of_x
from .problem import multipliers, sides
from .products import columns_of
from .scratch import column_vector, number, put_rows, row_vector
from .vectors import INF, clamped, largest, some


class Measure(NamedTuple):
    """Where a problem stands: scalars."""

    primal: Any
    dual: Any
    gap: Any
    primal_tolerance: Any
    dual_tolerance: Any
    primal_worst: Any  # next to the tolerance and what rounding may leave of it
    dual_worst: Any  # the same
    gap_worst: Any  # the same
    worst: Any  # the largest of the three
    hold: Any  # whether the three residuals are what they may be
    size_of_x: Any  # max |x / D|
    inner: Any  # the residual of the inner loop, scaled
    inner_enough: Any  # what that may be for the inner loop to end
    shifted: Any  # whether some row is


@triton.jit(noinline=True)
def measure(data, st, cfg: tl.constexpr):
    """Residuals and tolerances; writes the violation ``Gx - clamp(Gx, lo, hi)``."""
    tl.debug_barrier()
    lo, hi = sides(data, cfg)
    x, Hx = column_vector(data, slots.X, cfg), column_vector(data, slots.HX, cfg)
    g, Gz = column_vector(data, slots.COST, cfg), columns_of(data, slots.Z, cfg)
    z, Gx = row_vector(data, slots.Z, cfg), row_vector(data, slots.GX, cfg)
    eps_abs, eps_rel = number(data, slots.EPS_ABS, cfg), number(data, slots.EPS_REL, cfg)
    violation, stationarity = Gx - clamped(Gx, lo, hi), Hx + g + Gz
    put_rows(data, slots.VIOLATION, violation, cfg)
    gap = tl.sum(tl.abs(z) * tl.abs(tl.where(z == 0, 0.0, Gx - tl.where(z > 0, hi, lo))), axis=0)
    primal_tolerance = eps_abs + eps_rel * largest(Gx)
    dual_tolerance = eps_abs + eps_rel * tl.maximum(largest(Hx), tl.maximum(largest(g), largest(Gz)))
    gap_tolerance = eps_abs + tl.maximum(eps_abs, eps_rel) * tl.abs(tl.sum(x * (0.5 * Hx + g), axis=0))
    scaled = tl.abs(x / column_vector(data, slots.D, cfg))
    size_of_x = tl.max(scaled, axis=0)
    dual_size = dual_terms(data, tl.sum(scaled, axis=0), cfg)
    row_terms = rounding_of_rows(data, size_of_x, cfg)
    column_terms = dual_size * numbers.ROUNDING / column_vector(data, slots.D, cfg)
    primal_worst = largest(violation / (primal_tolerance + row_terms))
    dual_worst = largest(stationarity / (dual_tolerance + column_terms))
    gap_worst = gap / (gap_tolerance + tl.sum(tl.abs(z) * row_terms, axis=0))
    inner_terms = tl.maximum(number(data, slots.C_SCALE, cfg) * dual_size, size_of_x)
    inner, inner_enough = inner_residual(data, st, Gz, inner_terms, cfg)
    return Measure(
        largest(violation),
        largest(stationarity),
        gap,
        primal_tolerance,
        dual_tolerance,
        primal_worst,
        dual_worst,
        gap_worst,
        tl.maximum(tl.maximum(primal_worst, dual_worst), gap_worst),
        (primal_worst <= 1) & (dual_worst <= 1) & (gap_worst <= 1),
        size_of_x,
        inner,
        inner_enough,
        some(row_vector(data, slots.S, cfg) != 0),
    )


@triton.jit
def dual_terms(data, sum_of_x, cfg: tl.constexpr):
    """What the terms of ``D (Hx + g + G'z)`` add up to, about."""
    scale = column_vector(data, slots.D, cfg)
    Hx, g = largest(scale * column_vector(data, slots.HX, cfg)), largest(scale * column_vector(data, slots.COST, cfg))
    of_H = number(data, slots.H_SIZE, cfg) / number(data, slots.C_SCALE, cfg) * sum_of_x
    of_rows = tl.sum(tl.abs(row_vector(data, slots.Z, cfg) / row_vector(data, slots.E, cfg)), axis=0)
    return tl.maximum(tl.maximum(of_H, of_rows), tl.maximum(Hx, g))


@triton.jit
def rounding_of_rows(data, size_of_x, cfg: tl.constexpr):
    """What rounding may leave of ``Gx`` next to a side of about its size, shifted by s: [M]."""
    terms = size_of_x / row_vector(data, slots.E, cfg)
    terms += tl.abs(row_vector(data, slots.GX, cfg)) + tl.abs(row_vector(data, slots.S, cfg))
    return terms * numbers.ROUNDING


@triton.jit
def inner_residual(data, st, Gz, terms, cfg: tl.constexpr):
    """The residual of the inner loop, scaled, and what is enough: eta_in, or what rounding or the tolerance allows."""
    lo, hi = sides(data, cfg)
    c, scale = number(data, slots.C_SCALE, cfg), row_vector(data, slots.E, cfg)
    z, omega = row_vector(data, slots.Z, cfg), row_vector(data, slots.OMEGA, cfg)
    v = row_vector(data, slots.GX, cfg) + multipliers(data, st.phase, cfg) / omega
    inner_primal = v - clamped(v, lo, hi) - z / omega
    inner_dual = pull_of_x(data, st, cfg) + Gz
    scaled = tl.maximum(largest(c * column_vector(data, slots.D, cfg) * inner_dual), largest(scale * inner_primal))
    absolute = tl.maximum(largest(inner_dual), largest(inner_primal))
    enough = tl.maximum(number(data, slots.ETA_IN, cfg), terms * numbers.ROUNDING)
    return scaled, tl.where(absolute <= number(data, slots.EPS_ABS, cfg) * numbers.INNER_FLOOR, INF, enough)


@triton.jit
def measure_push(data, st, cfg: tl.constexpr):
    """``G' (omega violation)``, with z for the hard rows of phase SHIFT: [N]."""
    push = row_vector(data, slots.OMEGA, cfg) * row_vector(data, slots.VIOLATION, cfg)
    firm = (row_vector(data, slots.IS_HARD, cfg) != 0) & (st.phase == numbers.Phase.SHIFT)
    put_rows(data, slots.PULL, tl.where(firm, row_vector(data, slots.Z, cfg), push), cfg)
    return columns_of(data, slots.PULL, cfg)
