"""Equilibration of one problem, as in the reference's scaling.py: D, E and c are found, the data is never scaled."""

import triton
import triton.language as tl

from ..reference import scaling as _scaling
from .problem import (
    C_SCALE,
    PROX,
    UNIT,
    D,
    E,
    G,
    W,
    column_vector,
    columns_at,
    count_rows,
    largest,
    number,
    put,
    put_columns,
    put_number,
    put_rows,
    row_vector,
    rows_at,
)
from .products import chunk_of

PASSES = tl.constexpr(_scaling.PASSES)


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
            tl.store(rows_ptr + index, r * inverse_root(tl.max(entries, axis=1)), mask=index < count)
    tl.debug_barrier()
    return tl.max(sizes, axis=0)


@triton.jit(noinline=True)
def measure_scaling(data, equilibrate, cfg: tl.constexpr):
    """Writes D, E, c, and what follows from them."""
    scale = column_vector(data, D, cfg) * 0.0 + 1.0
    put_columns(data, D, scale, cfg)
    put_rows(data, E, row_vector(data, E, cfg) * 0.0 + 1.0, cfg)
    rows = rows_at(data, E, cfg)
    for _ in range(0, equilibrate * PASSES):
        size = column_sizes(data.A, data.n_eq, scale, rows, cfg, True)
        size = tl.maximum(size, column_sizes(data.C, data.n_in, scale, rows + data.n_eq, cfg, True))
        if cfg.has_h:
            size = tl.maximum(size, column_sizes(data.H, data.n, scale, columns_at(data, D, cfg), cfg, False))
        scale *= inverse_root(size)
        put_columns(data, D, scale, cfg)
    if cfg.bounded:
        put(rows + (data.n_eq + data.n_in), 1.0 / scale, cfg.n, cfg.N)
    size = largest(scale * column_vector(data, G, cfg))
    if cfg.has_h:
        of_H = column_sizes(data.H, data.n, scale, columns_at(data, D, cfg), cfg, False)
        size = tl.maximum(size, tl.sum(of_H, axis=0) / cfg.n)
    c = tl.where((equilibrate != 0) & (size > 0), 1.0 / size, 1.0)
    put_number(data, C_SCALE, c, cfg)
    put_columns(data, PROX, 1.0 / (c * scale * scale), cfg)
    set_unit(data, cfg)


@triton.jit
def set_unit(data, cfg: tl.constexpr):
    """Writes the factor that brings the weights w of shifts to about E^2 / c, as equilibrated rows have."""
    m = count_rows(data, cfg)
    inside = tl.arange(0, cfg.M) < m
    scale, w = row_vector(data, E, cfg), row_vector(data, W, cfg)
    squares = tl.sum(tl.where(inside, scale * scale, 0.0), axis=0)
    logarithms = tl.sum(tl.where(inside, tl.log(w), 0.0), axis=0)
    unit = tl.where(m > 0, squares / m / tl.exp(logarithms / m), 1.0)
    put_number(data, UNIT, unit / number(data, C_SCALE, cfg), cfg)
