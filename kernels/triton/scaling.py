"""Equilibration of one problem, as in the reference's scaling.py: D, E and c are found, the data is never scaled.

D and 1 / E take the unit of x.
"""

import triton
import triton.language as tl

from .. import numbers
from . import slots
from .problem import count_rows
from .products import chunk_of
from .scratch import column_vector, columns_at, number, put, put_columns, put_number, put_rows, row_vector, rows_at
from .vectors import INF, at_least, largest, power_of_two, some


@triton.jit
def inverse_root(size):
    """``1 / sqrt(size)``, and 1 where a row or column is zero."""
    return 1.0 / tl.sqrt(tl.where(size > 0, size, 1.0))


@triton.jit
def column_sizes(M_ptr, count, scale, rows_ptr, cfg: tl.constexpr, SHRINK: tl.constexpr):
    """``max_i |r_i M_ij scale_j|``: [N], for r [count] in memory; SHRINK divides r_i by the root of its row's size."""
    N: tl.constexpr = cfg.N
    CHUNK: tl.constexpr = cfg.chunk
    sizes = tl.zeros((CHUNK, N), tl.float64)
    for start in range(0, count, cfg.chunk):
        index = start + tl.arange(0, cfg.chunk)
        r = tl.load(rows_ptr + index, mask=index < count, other=0.0)
        entries = tl.abs(chunk_of(M_ptr, start, count, cfg)) * scale[None, :] * r[:, None]
        sizes = tl.maximum(sizes, entries)
        if SHRINK:
            tl.debug_barrier()
            tl.store(rows_ptr + index, r * inverse_root(tl.max(entries, axis=1)), mask=index < count)
    tl.debug_barrier()
    return tl.max(sizes, axis=0)


@triton.jit
def limit_rows(data, cfg: tl.constexpr):
    """Gives a stored row that is next to nothing beside the largest one, or beside any bound, the E of that."""
    scale, index = row_vector(data, slots.E, cfg), tl.arange(0, cfg.M)
    stored = index < data.n_eq + data.n_in
    least = tl.min(tl.where(stored, scale, INF), axis=0)
    if cfg.bounded:
        bound = (stored == 0) & (index < count_rows(data, cfg))
        least = tl.minimum(least, tl.max(tl.where(bound, scale, 0.0), axis=0))
    put_rows(data, slots.E, tl.where(stored & (least <= scale * numbers.ZERO_ROW), least, scale), cfg)


@triton.jit
def unit_of_x(data, confined, curvature, slope, cfg: tl.constexpr):
    """About how large x is, equilibrated, as a power of two: see the reference's _unit."""
    lo, hi = row_vector(data, slots.LO, cfg), row_vector(data, slots.HI, cfg)
    size = tl.where(curvature > 0, slope / curvature, INF)
    low, high = tl.where(lo == -INF, 0.0, tl.abs(lo)), tl.where(hi == INF, 0.0, tl.abs(hi))
    farthest = tl.max(row_vector(data, slots.E, cfg) * tl.maximum(low, high), axis=0)
    size = tl.where(confined & (farthest > 0) & (farthest < size), farthest, size)
    violated = at_least(tl.maximum(lo, -hi), 0.0)
    size = tl.maximum(size, tl.max(row_vector(data, slots.E, cfg) * violated, axis=0))
    return power_of_two(tl.where((size > 0) & (size < INF), size, 1.0), numbers.UNIT_POWER)


@triton.jit
def confines(data, of_H, cfg: tl.constexpr):
    """Whether the sides bound x where the cost may not: all x are bounded, or some have no curvature."""
    flat = some((of_H == 0) & (tl.arange(0, cfg.N) < cfg.n))
    if cfg.bounded:
        lo, hi = row_vector(data, slots.LO, cfg), row_vector(data, slots.HI, cfg)
        index = tl.arange(0, cfg.M)
        bound = (index >= data.n_eq + data.n_in) & (index < count_rows(data, cfg))
        flat |= some(bound & ((lo == -INF) | (hi == INF))) == 0
    return flat


@triton.jit(noinline=True)
def measure_scaling(data, equilibrate, cfg: tl.constexpr):
    """Writes D, E, c, h, and what follows from them."""
    tl.debug_barrier()
    scale = column_vector(data, slots.D, cfg) * 0.0 + 1.0
    put_columns(data, slots.D, scale, cfg)
    put_rows(data, slots.E, row_vector(data, slots.E, cfg) * 0.0 + 1.0, cfg)
    rows, columns = rows_at(data, slots.E, cfg), columns_at(data, slots.D, cfg)
    for _ in range(0, equilibrate * numbers.RUIZ_PASSES):
        size = column_sizes(data.A, data.n_eq, scale, rows, cfg, True)
        size = tl.maximum(size, column_sizes(data.C, data.n_in, scale, rows + data.n_eq, cfg, True))
        if cfg.has_h:
            size = tl.maximum(size, column_sizes(data.H, data.n, scale, columns, cfg, False))
        scale *= inverse_root(size)
        put_columns(data, slots.D, scale, cfg)
    if cfg.bounded:
        put(rows + (data.n_eq + data.n_in), 1.0 / scale, cfg.n, cfg.N)
    limit_rows(data, cfg)
    slope = largest(scale * column_vector(data, slots.COST, cfg))
    of_H = 0.0 * scale
    if cfg.has_h:
        of_H = column_sizes(data.H, data.n, scale, columns, cfg, False)
    curvature, h = tl.sum(of_H, axis=0) / cfg.n, tl.max(of_H, axis=0)
    unit = unit_of_x(data, confines(data, of_H, cfg), curvature, slope, cfg)
    unit = tl.where(equilibrate != 0, unit, 1.0)
    size = unit * tl.maximum(unit * curvature, slope)
    c = tl.where(equilibrate != 0, 1.0 / tl.where(size > 0, size, unit), 1.0)
    scale *= unit
    put_columns(data, slots.D, scale, cfg)
    put_rows(data, slots.E, row_vector(data, slots.E, cfg) / unit, cfg)
    put_number(data, slots.C_SCALE, c, cfg)
    put_number(data, slots.H_SIZE, c * unit * unit * h, cfg)
    put_columns(data, slots.METRIC_X, 1.0 / (c * scale * scale), cfg)
    set_shift_unit(data, cfg)


@triton.jit
def set_shift_unit(data, cfg: tl.constexpr):
    """Writes the factor that brings the weights w of shifts to about E^2 / c, as equilibrated rows have."""
    m = count_rows(data, cfg)
    inside = tl.arange(0, cfg.M) < m
    scale, w = row_vector(data, slots.E, cfg), row_vector(data, slots.SHIFT_WEIGHT, cfg)
    logarithms = tl.sum(tl.where(inside, 2.0 * tl.log(scale) - tl.log(w), 0.0), axis=0)
    unit = tl.where(m > 0, tl.exp(logarithms / m), 1.0)
    put_number(data, slots.SHIFT_UNIT, unit / number(data, slots.C_SCALE, cfg), cfg)


@triton.jit
def weigh_beside_hard_rows(data, cfg: tl.constexpr):
    """Where there are hard rows, the heaviest shift weighs in phase SHIFT as its row does with mu = 1."""
    hard = row_vector(data, slots.IS_HARD, cfg) != 0
    soft = (hard == 0) & (tl.arange(0, cfg.M) < count_rows(data, cfg))
    scale = row_vector(data, slots.E, cfg)
    heaviest = largest(tl.where(soft, row_vector(data, slots.SHIFT_WEIGHT, cfg) / (scale * scale), 0.0))
    if some(hard) & (heaviest > 0):
        put_number(data, slots.SHIFT_UNIT, 1.0 / (heaviest * number(data, slots.C_SCALE, cfg)), cfg)
