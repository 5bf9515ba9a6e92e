"""Iterations of ADMM from a measured point to the next one, and the measure of that: in one launch."""

from typing import Any, NamedTuple

import triton
import triton.language as tl

from .measured import measure
from .splitting import (
    blocks,
    columns_of,
    extents,
    flag,
    iterated_by_columns,
    iterated_by_rows,
    matrix,
    put_tile,
    rows_of,
    tile,
    times,
    told,
    transposed,
)
from .vectors import INF


class Point(NamedTuple):
    """Pointers to where the problems are."""

    x: Any  # [B, n]
    z: Any  # [B, m]
    v: Any  # [B, m]
    Hx: Any  # [B, n]
    Gx: Any  # [B, m]
    Gz: Any  # [B, n]


class Posed(NamedTuple):
    """Pointers to what they ask, and to the metric; bit k of ``batched`` says whether array k has a batch."""

    g: Any  # [B|1, n]
    lo: Any  # [B|1, m]
    hi: Any  # [B|1, m]
    s: Any  # [B|1, m]
    D: Any  # [B|1, n] in the unit of x
    E: Any  # [B|1, m] times that
    unit: Any  # [B|1, 1]
    c: Any  # [B|1, 1]
    h: Any  # [B|1, 1]
    H: Any  # [B|1, n, n] and the rest: of one problem for a tile, or of each
    rows: Any  # [B|1, k, n] the stored rows
    inexact: Any  # [B|1, k, n] the same in the precision of the iterations
    inverse: Any  # [B|1, n, n] of K
    response: Any  # [B|1, k, k] of the rows, where iterations are products with it
    rho: Any  # [B|1, m]


@triton.jit
def put_next(at, to, posed, batched, part, where, offset, width, T: tl.constexpr, M: tl.constexpr):
    """Writes z and v of a part of the rows at the next point."""
    first, batch, m = where
    Gx = tile(at.Gx, first, batch, offset, m, width, 0.0, T, M)
    lo = tile(posed.lo, first, batch, offset, m * flag(batched, 1), width, -INF, T, M)
    hi = tile(posed.hi, first, batch, offset, m * flag(batched, 2), width, INF, T, M)
    z = tile(at.z, first, batch, offset, m, width, 0.0, T, M) + (part.rho * (part.w - part.v)).to(tl.float64)
    z = tl.where(part.v == part.w + part.held, 0.0, z)  # not its rounding error where a row is inactive
    put_tile(to.z, z, first, batch, offset, m, width)
    put_tile(to.v, tl.minimum(tl.maximum(Gx + part.v.to(tl.float64), lo), hi), first, batch, offset, m, width)


@triton.jit(noinline=True)
def iterate(at, to, posed, batched, batch, n, k, count, share, shape: tl.constexpr):
    """Writes x, z and v at the next point."""
    tl.debug_barrier()
    T: tl.constexpr = shape.T
    N: tl.constexpr = shape.N
    first = tl.program_id(0).to(tl.int64) * T
    size, begin, end = extents(n, k, shape)
    where = (first, batch, k + n if shape.bounded else k)
    inverse = posed.inverse + first * flag(batched, 12) * n * n
    rho_ptr = posed.rho + first * flag(batched, 14) * (k + n if shape.bounded else k)
    kind: tl.constexpr = posed.inverse.dtype.element_ty

    G = posed.inexact + first * flag(batched, 11) * k * n
    dual = tile(at.Hx, first, batch, 0, n, n, 0.0, T, N) + tile(at.Gz, first, batch, 0, n, n, 0.0, T, N)
    dual += tile(posed.g, first, batch, 0, n * flag(batched, 0), n, 0.0, T, N)
    unpushed = times((-dual).to(kind), matrix(inverse, n, n, n, 1, N, N))
    x = tile(at.x, first, batch, 0, n, n, 0.0, T, N) + share * unpushed.to(tl.float64)
    put_tile(to.x, x, first, batch, 0, n, n)  # not kept on the chip
    base, other = rows_of(unpushed, transposed(G, n, k, shape), shape)
    r = told(at, posed, rho_ptr, batched, where, base, 0, size, T, shape.M)
    q = told(at, posed, rho_ptr, batched, where, other, begin, end - begin, T, shape.L) if shape.L > 0 else r
    if shape.by_rows:
        r, q = iterated_by_rows(r, q, posed.response + first * flag(batched, 13) * k * k, n, k, count, shape)
    else:
        r, q = iterated_by_columns(r, q, inverse, G, n, k, count, shape)
    tl.debug_barrier()
    pulled = columns_of(r.rho * r.pushes, q.rho * q.pushes, blocks(G, n, k, shape), shape)
    step = times(pulled, matrix(inverse, n, n, n, 1, N, N))
    x = tile(to.x, first, batch, 0, n, n, 0.0, T, N) + shape.alpha * step.to(tl.float64)
    tl.debug_barrier()
    put_tile(to.x, x, first, batch, 0, n, n)
    put_next(at, to, posed, batched, r, where, 0, size, T, shape.M)
    if shape.L > 0:
        put_next(at, to, posed, batched, q, where, begin, end - begin, T, shape.L)


@triton.jit(noinline=True)
def put_products(to, posed, batched, batch, n, k, shape: tl.constexpr):
    """Writes the products at the next point."""
    tl.debug_barrier()
    T: tl.constexpr = shape.T
    first = tl.program_id(0).to(tl.int64) * T
    size, begin, end = extents(n, k, shape)
    m = k + n if shape.bounded else k
    x = tile(to.x, first, batch, 0, n, n, 0.0, T, shape.N)
    z = tile(to.z, first, batch, 0, m, size, 0.0, T, shape.M)
    other = tile(to.z, first, batch, begin, m, end - begin, 0.0, T, shape.L) if shape.L > 0 else z
    G, Hx = posed.rows + first * flag(batched, 10) * k * n, tl.zeros_like(x)
    Gx, rest = rows_of(x, transposed(G, n, k, shape), shape)
    put_tile(to.Gz, columns_of(z, other, blocks(G, n, k, shape), shape), first, batch, 0, n, n)
    put_tile(to.Gx, Gx, first, batch, 0, m, size)
    if shape.L > 0:
        put_tile(to.Gx, rest, first, batch, begin, m, end - begin)
    if shape.has_h:
        Hx = times(x, matrix(posed.H + first * flag(batched, 9) * n * n, n, n, n, 1, shape.N, shape.N))
    put_tile(to.Hx, Hx, first, batch, 0, n, n)


@triton.jit(do_not_specialize=["batched", "batch", "count"])
def advance_kernel(
    at,  # Point
    to,  # Point, the output
    posed,  # Posed
    numbers_ptr,  # [14, B] the output: what Measure has
    batched,
    batch,
    n,
    k,  # stored rows
    count,  # of iterations, which may be none
    share: tl.float64,  # 1 - (1 - alpha)^count
    eps_abs: tl.float64,
    eps_rel: tl.float64,
    shape: tl.constexpr,
):
    """Iterations of problems T ``program_id(0)`` and on in the precision of the inverse, and a measure in double."""
    iterate(at, to, posed, batched, batch, n, k, count, share, shape)
    put_products(to, posed, batched, batch, n, k, shape)
    measure(numbers_ptr, at, to, posed, batched, batch, n, k, eps_abs, eps_rel, shape)
