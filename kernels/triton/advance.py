"""Iterations of ADMM from a measured point to the next one, and its measure: a launch each.

One kernel for both would have registers spill.
"""

from typing import Any, NamedTuple

import triton
import triton.language as tl

from .measured import Columns, Lines, measure
from .splitting import flag, matrix, pushed, put_tile, tile, times, times_transposed, told, weights, within
from .vectors import INF


class Point(NamedTuple):
    """Pointers to where the problems are."""

    x: Any  # [B, n]
    z: Any  # [B, m]
    v: Any  # [B, m]
    Hx: Any  # [B, n]
    Gx: Any  # [B, m]
    Gz: Any  # [B, n]


class Way(NamedTuple):
    """Pointers to how they came there from the last measured point."""

    dx: Any  # [B, n]
    dz: Any  # [B, m]


class Posed(NamedTuple):
    """Pointers to what they ask, and to the metric; bit k of ``batched`` says whether array k has a batch."""

    g: Any  # [B|1, n]
    lo: Any  # [B|1, m]
    hi: Any  # [B|1, m]
    s: Any  # [B|1, m]
    D: Any  # [B|1, n]
    E: Any  # [B|1, m]
    c: Any  # [B|1, 1]
    h: Any  # [B|1, 1]
    H: Any  # [B|1, n, n] and the rest: of one problem for a tile, or of each
    rows: Any  # [B|1, k, n] the stored rows
    inverse: Any  # [B|1, n, n] of K
    inexact: Any  # [B|1, k, n] the rows in the precision of the iterations
    rho: Any  # [B|1, m]
    sigma: Any  # [B|1, n]


class Shape(NamedTuple):
    """What a variant is compiled for."""

    alpha: float  # over-relaxation
    T: int  # problems of a program
    N: int  # n rounded up
    M: int  # and the stored rows
    has_h: bool
    bounded: bool
    precision: str  # of products in float32
    version: str  # of the numbers, which Triton's own key of a variant does not see


@triton.jit
def iterated(r, b, inverse, G, dual, sigma, count, shape: tl.constexpr):
    """``count`` iterations: dx [T, N], the rows and the bounds."""
    beta: tl.constexpr = 1 - shape.alpha
    dx = tl.zeros_like(dual)
    for _ in range(count):
        push = sigma * dx - dual + times(pushed(r), G, shape.precision)
        if shape.bounded:
            push += pushed(b)
        step = times(push, inverse, shape.precision)
        dx = shape.alpha * step + beta * dx
        r = within(r, shape.alpha * times_transposed(step, G, shape.precision) + beta * r.v)
        if shape.bounded:
            b = within(b, shape.alpha * step + beta * b.v)
    return dx, r, b


@triton.jit
def put_next(at, to, way, posed, batched, part, where, offset, width, T: tl.constexpr, M: tl.constexpr):
    """Writes a part of the rows at the next point."""
    first, batch, m = where
    Gx = tile(at.Gx, first, batch, offset, m, width, 0.0, T, M)
    lo = tile(posed.lo, first, batch, offset, m * flag(batched, 1), width, -INF, T, M)
    hi = tile(posed.hi, first, batch, offset, m * flag(batched, 2), width, INF, T, M)
    dz = part.dz.to(tl.float64)
    z = tile(at.z, first, batch, offset, m, width, 0.0, T, M) + dz
    z = tl.where(part.dz == -part.z, 0.0, z)  # not the rounding error of z where a row is inactive
    put_tile(way.dz, dz, first, batch, offset, m, width)
    put_tile(to.z, z, first, batch, offset, m, width)
    put_tile(to.v, tl.minimum(tl.maximum(Gx + part.v.to(tl.float64), lo), hi), first, batch, offset, m, width)


@triton.jit(do_not_specialize=["batched", "batch", "n", "k", "count"])
def iterate_kernel(
    at,  # Point
    to,  # Point, the output: x, z and v
    way,  # Way, the output
    posed,  # Posed
    batched,
    batch,
    n,
    k,  # stored rows
    count,  # of iterations, which may be none
    shape: tl.constexpr,
):
    """Iterations of problems T ``program_id(0)`` and on, in the precision of the inverse."""
    T: tl.constexpr = shape.T
    N: tl.constexpr = shape.N
    M: tl.constexpr = shape.M
    first = tl.program_id(0).to(tl.int64) * T
    m = k + n if shape.bounded else k
    where = (first, batch, m)
    kind: tl.constexpr = posed.inverse.dtype.element_ty
    inverse = matrix(posed.inverse + first * flag(batched, 10) * n * n, n, n, N, N)
    G = matrix(posed.inexact + first * flag(batched, 11) * k * n, k, n, M, N)
    rho_ptr = posed.rho + first * flag(batched, 12) * m
    sigma = weights(posed.sigma + first * flag(batched, 13) * n, n, N)
    g = tile(posed.g, first, batch, 0, n * flag(batched, 0), n, 0.0, T, N)
    dual = tile(at.Hx, first, batch, 0, n, n, 0.0, T, N) + g + tile(at.Gz, first, batch, 0, n, n, 0.0, T, N)
    r = told(at, posed, rho_ptr, batched, where, 0, k, kind, T, M)
    b = told(at, posed, rho_ptr, batched, where, k, n, kind, T, N) if shape.bounded else r
    dx, r, b = iterated(r, b, inverse, G, dual.to(kind), sigma, count, shape)
    put_tile(way.dx, dx.to(tl.float64), first, batch, 0, n, n)
    put_tile(to.x, tile(at.x, first, batch, 0, n, n, 0.0, T, N) + dx.to(tl.float64), first, batch, 0, n, n)
    put_next(at, to, way, posed, batched, r, where, 0, k, T, M)
    if shape.bounded:
        put_next(at, to, way, posed, batched, b, where, k, n, T, N)


@triton.jit
def lines(at, to, way, posed, batched, Gx, where, offset, width, T: tl.constexpr, M: tl.constexpr):
    """A part of the rows at the next point, where ``G x`` is known, and which is written."""
    first, batch, m = where
    lo = tile(posed.lo, first, batch, offset, m * flag(batched, 1), width, -INF, T, M)
    hi = tile(posed.hi, first, batch, offset, m * flag(batched, 2), width, INF, T, M)
    s = tile(posed.s, first, batch, offset, m * flag(batched, 3), width, 0.0, T, M)
    E = tile(posed.E, first, batch, offset, m * flag(batched, 5), width, 1.0, T, M)
    z = tile(to.z, first, batch, offset, m, width, 0.0, T, M)
    v = tile(to.v, first, batch, offset, m, width, 0.0, T, M)
    dz = tile(way.dz, first, batch, offset, m, width, 0.0, T, M)
    Gdx = Gx - tile(at.Gx, first, batch, offset, m, width, 0.0, T, M)
    put_tile(to.Gx, Gx, first, batch, offset, m, width)
    return Lines(z, v, Gx, lo, hi, s, E, dz, Gdx)


@triton.jit(do_not_specialize=["batched", "batch", "n", "k"])
def measure_kernel(
    at,  # Point
    to,  # Point, whose x, z and v are known; the rest is output
    way,  # Way, from one to the other
    posed,  # Posed
    numbers_ptr,  # [14, B] the output: what Measure has
    batched,
    batch,
    n,
    k,
    eps_abs: tl.float64,
    eps_rel: tl.float64,
    shape: tl.constexpr,
):
    """Where problems T ``program_id(0)`` and on have come, in double precision."""
    T: tl.constexpr = shape.T
    N: tl.constexpr = shape.N
    M: tl.constexpr = shape.M
    first = tl.program_id(0).to(tl.int64) * T
    where = (first, batch, k + n if shape.bounded else k)
    x = tile(to.x, first, batch, 0, n, n, 0.0, T, N)
    Hx = tl.zeros_like(x)
    if shape.has_h:
        Hx = times(x, matrix(posed.H + first * flag(batched, 8) * n * n, n, n, N, N), shape.precision)
    G = matrix(posed.rows + first * flag(batched, 9) * k * n, k, n, M, N)
    r = lines(at, to, way, posed, batched, times_transposed(x, G, shape.precision), where, 0, k, T, M)
    Gz = times(r.z, G, shape.precision)
    b = lines(at, to, way, posed, batched, x, where, k, n, T, N) if shape.bounded else r
    if shape.bounded:
        Gz += b.z
    Hdx = Hx - tile(at.Hx, first, batch, 0, n, n, 0.0, T, N)
    Gdz = Gz - tile(at.Gz, first, batch, 0, n, n, 0.0, T, N)
    put_tile(to.Hx, Hx, first, batch, 0, n, n)
    put_tile(to.Gz, Gz, first, batch, 0, n, n)
    g = tile(posed.g, first, batch, 0, n * flag(batched, 0), n, 0.0, T, N)
    D = tile(posed.D, first, batch, 0, n * flag(batched, 4), n, 1.0, T, N)
    q = Columns(x, Hx, Gz, g, D, tile(way.dx, first, batch, 0, n, n, 0.0, T, N), Hdx, Gdz)
    index = first + tl.arange(0, T)
    inside = index < batch
    c = tl.load(posed.c + index * flag(batched, 6), mask=inside, other=1.0)
    h = tl.load(posed.h + index * flag(batched, 7), mask=inside, other=0.0)
    measure(numbers_ptr, index, inside, batch, q, r, b, c, h, eps_abs, eps_rel, shape.bounded)
