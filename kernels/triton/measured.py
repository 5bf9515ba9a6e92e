"""Where T problems stand after iterations of ADMM: the numbers of the reference's advance.Measure, for each problem.

A few columns or rows of each problem are looked at at a time, T by C entries in all, one for each thread; what the
threads have found is put together once, at the end.
"""

from typing import Any, NamedTuple

import triton
import triton.language as tl

from .. import numbers
from .splitting import flag, tile
from .vectors import INF, at_least, at_most


class Columns(NamedTuple):
    """What is found of columns, with D in the unit of x: the largest entries, and at the end sums: [T, C]."""

    size: Any  # x / D
    Hx: Any
    g: Any
    Gz: Any
    DHx: Any
    Dg: Any
    DGz: Any
    stationarity: Any  # H x + g + G'z
    apart: Any  # D (H x + g + G'z)
    stride: Any  # dx / D
    curvature: Any  # D H dx
    sizes: Any  # |x / D|
    unknown: Any  # 0, or not a number
    objective: Any
    slope: Any  # g'dx
    pull: Any  # |D G'dz|


class Lines(NamedTuple):
    """The same of rows, with E times the unit of x."""

    Gx: Any
    EGx: Any
    Ev: Any
    apart: Any  # E (G x - v)
    violation: Any
    nearing: Any  # E |G dx|, towards sides that there are
    sizes: Any  # |z / E|
    gap: Any
    room: Any  # |z| (|G x| + |s|)
    support: Any  # max(lo dz, hi dz), of sides that there are
    strayed: Any  # |dz / E|, towards sides that there are not


@triton.jit
def most(V):
    """The largest entry of each problem: [T, C] -> [T]."""
    return tl.max(V, axis=1)


@triton.jit
def next_to(residual, term):
    """A residual next to the largest of its terms: [T]."""
    found = tl.where(term > 0, residual / tl.where(term > 0, term, 1.0), 0.0)
    return at_least(found, numbers.ADMM_RESIDUAL)


@triton.jit
def seen_columns(a, at, to, posed, batched, first, batch, j, n, T: tl.constexpr, C: tl.constexpr):
    """What is found with columns j to j + C too."""
    x = tile(to.x, first, batch, j, n, n - j, 0.0, T, C)
    Hx = tile(to.Hx, first, batch, j, n, n - j, 0.0, T, C)
    Gz = tile(to.Gz, first, batch, j, n, n - j, 0.0, T, C)
    g = tile(posed.g, first, batch, j, n * flag(batched, 0), n - j, 0.0, T, C)
    D = tile(posed.D, first, batch, j, n * flag(batched, 4), n - j, 1.0, T, C)
    dx = x - tile(at.x, first, batch, j, n, n - j, 0.0, T, C)
    Hdx = Hx - tile(at.Hx, first, batch, j, n, n - j, 0.0, T, C)
    Gdz = Gz - tile(at.Gz, first, batch, j, n, n - j, 0.0, T, C)
    size, stationarity = tl.abs(x / D), tl.abs(Hx + g + Gz)
    return Columns(
        at_least(a.size, size),
        at_least(a.Hx, tl.abs(Hx)),
        at_least(a.g, tl.abs(g)),
        at_least(a.Gz, tl.abs(Gz)),
        at_least(a.DHx, D * tl.abs(Hx)),
        at_least(a.Dg, D * tl.abs(g)),
        at_least(a.DGz, D * tl.abs(Gz)),
        at_least(a.stationarity, stationarity),
        at_least(a.apart, D * stationarity),
        at_least(a.stride, tl.abs(dx / D)),
        at_least(a.curvature, D * tl.abs(Hdx)),
        a.sizes + size,
        a.unknown + (x - x),
        a.objective + x * (0.5 * Hx + g),
        a.slope + g * dx,
        a.pull + D * tl.abs(Gdz),
    )


@triton.jit
def row_terms(posed, batched, where, Gx, size, i, T: tl.constexpr, C: tl.constexpr):
    """What rounding leaves of ``G x`` next to sides, without its factor, for an x of some size [T]: [T, C]."""
    first, batch, m = where
    s = tile(posed.s, first, batch, i, m * flag(batched, 3), m - i, 0.0, T, C)
    E = tile(posed.E, first, batch, i, m * flag(batched, 5), m - i, 1.0, T, C)
    return size[:, None] / E + tl.abs(Gx) + tl.abs(s)


@triton.jit
def sides_of(posed, batched, where, i, T: tl.constexpr, C: tl.constexpr):
    """Of rows i to i + C: [T, C] each."""
    first, batch, m = where
    lo = tile(posed.lo, first, batch, i, m * flag(batched, 1), m - i, -INF, T, C)
    return lo, tile(posed.hi, first, batch, i, m * flag(batched, 2), m - i, INF, T, C)


@triton.jit
def seen_rows(a, at, to, posed, batched, where, size, i, T: tl.constexpr, C: tl.constexpr):
    """What is found with rows i to i + C too."""
    first, batch, m = where
    Gx = tile(to.Gx, first, batch, i, m, m - i, 0.0, T, C)
    z = tile(to.z, first, batch, i, m, m - i, 0.0, T, C)
    v = tile(to.v, first, batch, i, m, m - i, 0.0, T, C)
    E = tile(posed.E, first, batch, i, m * flag(batched, 5), m - i, 1.0, T, C)
    lo, hi = sides_of(posed, batched, where, i, T, C)
    dz = z - tile(at.z, first, batch, i, m, m - i, 0.0, T, C)
    Gdx = E * (Gx - tile(at.Gx, first, batch, i, m, m - i, 0.0, T, C))
    up = tl.where(hi == INF, 0.0, at_least(Gdx, 0.0))
    down = tl.where(lo == -INF, 0.0, at_most(Gdx, 0.0))
    slack = tl.where(z == 0, 0.0, Gx - tl.where(z > 0, hi, lo))
    side = tl.where(dz > 0, hi, tl.where(dz < 0, lo, 0.0))
    is_absent = tl.abs(side) == INF
    return Lines(
        at_least(a.Gx, tl.abs(Gx)),
        at_least(a.EGx, E * tl.abs(Gx)),
        at_least(a.Ev, E * tl.abs(v)),
        at_least(a.apart, E * tl.abs(Gx - v)),
        at_least(a.violation, tl.abs(Gx - at_most(at_least(Gx, lo), hi))),
        at_least(a.nearing, up - down),
        a.sizes + tl.abs(z / E),
        a.gap + tl.abs(z * slack),
        a.room + tl.abs(z) * row_terms(posed, batched, where, Gx, size, i, T, C),
        a.support + tl.where(is_absent, 0.0, dz * side),
        a.strayed + tl.where(is_absent, tl.abs(dz / E), 0.0),
    )


@triton.jit
def worst_of_rows(to, posed, batched, where, size, tolerance, T: tl.constexpr, C: tl.constexpr):
    """The violation next to what it may be, of each problem: [T]."""
    first, batch, m = where
    worst = tl.zeros((T, C), tl.float64)
    for i in range(0, m, C):
        Gx = tile(to.Gx, first, batch, i, m, m - i, 0.0, T, C)
        lo, hi = sides_of(posed, batched, where, i, T, C)
        terms = numbers.ROUNDING * row_terms(posed, batched, where, Gx, size, i, T, C)
        violation = tl.abs(Gx - at_most(at_least(Gx, lo), hi))
        worst = at_least(worst, violation / (tolerance[:, None] + terms))
    return most(worst)


@triton.jit
def worst_of_columns(to, posed, batched, first, batch, n, tolerance, terms, T: tl.constexpr, C: tl.constexpr):
    """The same of the stationarity."""
    worst = tl.zeros((T, C), tl.float64)
    for j in range(0, n, C):
        Hx = tile(to.Hx, first, batch, j, n, n - j, 0.0, T, C)
        Gz = tile(to.Gz, first, batch, j, n, n - j, 0.0, T, C)
        g = tile(posed.g, first, batch, j, n * flag(batched, 0), n - j, 0.0, T, C)
        D = tile(posed.D, first, batch, j, n * flag(batched, 4), n - j, 1.0, T, C)
        worst = at_least(worst, tl.abs(Hx + g + Gz) / (tolerance[:, None] + terms[:, None] / D))
    return most(worst)


@triton.jit
def put_numbers(out, b, inside, batch, values):
    """Writes the numbers of the problems b [T], one below the other."""
    for k in tl.static_range(len(values)):
        tl.store(out + k * batch + b, values[k], mask=inside)


@triton.jit(noinline=True)
def measure(out, at, to, posed, batched, batch, n, k, eps_abs, eps_rel, shape: tl.constexpr):
    """Writes what :class:`Measure` has, in its order; a maximum leaves out what is not a number, a sum does not."""
    tl.debug_barrier()
    T: tl.constexpr = shape.T
    C: tl.constexpr = shape.C
    first = tl.program_id(0).to(tl.int64) * T
    where = (first, batch, k + n if shape.bounded else k)
    b = first + tl.arange(0, T)
    inside = b < batch
    unit = tl.load(posed.unit + b * flag(batched, 6), mask=inside, other=1.0)
    c = tl.load(posed.c + b * flag(batched, 7), mask=inside, other=1.0)
    h = tl.load(posed.h + b * flag(batched, 8), mask=inside, other=0.0)
    none = tl.zeros((T, C), tl.float64)

    q = Columns(none, none, none, none, none, none, none, none, none, none, none, none, none, none, none, none)
    for j in range(0, n, C):
        q = seen_columns(q, at, to, posed, batched, first, batch, j, n, T, C)
    unknown = tl.sum(q.unknown, axis=1)
    size = most(q.size) + unknown  # next to E: the units are those of G x
    r = Lines(none, none, none, none, none, none, none, none, none, none, none)
    for i in range(0, where[2], C):
        r = seen_rows(r, at, to, posed, batched, where, size, i, T, C)

    primal_tolerance = eps_abs + eps_rel * most(r.Gx)
    primal_worst = worst_of_rows(to, posed, batched, where, size, primal_tolerance, T, C)
    Hx, g, Gz, DHx, Dg = most(q.Hx), most(q.g), most(q.Gz), most(q.DHx), most(q.Dg)
    terms = h / c * tl.sum(q.sizes, axis=1) / (unit * unit)
    terms = numbers.ROUNDING * tl.maximum(terms, tl.maximum(tl.sum(r.sizes, axis=1), tl.maximum(DHx, Dg)))
    dual_tolerance = eps_abs + eps_rel * tl.maximum(Hx, tl.maximum(g, Gz))
    dual_worst = worst_of_columns(to, posed, batched, first, batch, n, dual_tolerance, terms, T, C)
    objective = tl.abs(tl.sum(q.objective, axis=1))
    gap, gap_tolerance = tl.sum(r.gap, axis=1), eps_abs + tl.maximum(eps_abs * objective, eps_rel * objective)
    balance = next_to(most(r.apart), tl.maximum(most(r.EGx), most(r.Ev)))
    balance /= next_to(most(q.apart), tl.maximum(DHx, tl.maximum(Dg, most(q.DGz))))
    put_numbers(
        out,
        b,
        inside,
        batch,
        (
            most(r.violation),
            most(q.stationarity),
            gap,
            primal_worst + unknown,
            dual_worst + unknown,
            gap / (gap_tolerance + numbers.ROUNDING * tl.sum(r.room, axis=1)) + unknown,
            size / unit,
            balance,
            tl.sum(r.support, axis=1),
            unit * (tl.sum(q.pull, axis=1) + n * tl.sum(r.strayed, axis=1)),
            most(q.stride) / unit,
            c * tl.sum(q.slope, axis=1),
            unit * c * most(q.curvature),
            most(r.nearing) / unit,
        ),
    )
