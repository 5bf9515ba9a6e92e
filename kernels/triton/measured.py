"""Where T problems stand after iterations of ADMM: the numbers of the reference's advance.Measure, for each problem."""

from typing import Any, NamedTuple

import triton
import triton.language as tl

from .. import numbers
from .vectors import at_least


class Lines(NamedTuple):
    """A part of the rows, stored or bounds, of T problems at a point; what is beyond their number weighs nothing."""

    z: Any  # [T, M] and the rest
    v: Any
    Gx: Any
    lo: Any
    hi: Any
    s: Any
    E: Any
    dz: Any  # from the last measured point
    Gdx: Any


class Columns(NamedTuple):
    """The vectors of x of T problems at a point."""

    x: Any  # [T, N] and the rest
    Hx: Any
    Gz: Any
    g: Any
    D: Any
    dx: Any  # from the last measured point
    Hdx: Any
    Gdz: Any


@triton.jit
def most(V):
    """``max |v_i|`` of each problem: [T, N] -> [T]."""
    return tl.max(tl.abs(V), axis=1)


@triton.jit
def total(V):
    """``sum |v_i|`` of each problem: [T, N] -> [T]."""
    return tl.sum(tl.abs(V), axis=1)


@triton.jit
def next_to(residual, term):
    """A residual next to the largest of its terms: [T]."""
    found = tl.where(term > 0, residual / tl.where(term > 0, term, 1.0), 0.0)
    return at_least(found, numbers.ADMM_RESIDUAL)


@triton.jit
def sizes_of_rows(r):
    """The largest of ``G x``, ``E G x``, ``E v`` and ``E (G x - v)``, and the sum of ``z / E``: [T] each."""
    return most(r.Gx), most(r.E * r.Gx), most(r.E * r.v), most(r.E * (r.Gx - r.v)), total(r.z / r.E)


@triton.jit
def residuals_of_rows(r, far, tolerance):
    """The violation, the same next to what it may be, the gap and what rounding may leave of it: [T] each."""
    terms = numbers.ROUNDING * (far[:, None] / r.E + tl.abs(r.Gx) + tl.abs(r.s))
    violation = tl.abs(r.Gx - tl.minimum(tl.maximum(r.Gx, r.lo), r.hi))
    slack = tl.where(r.z == 0, 0.0, r.Gx - tl.where(r.z > 0, r.hi, r.lo))
    z = tl.abs(r.z)
    worst = tl.max(violation / (tolerance[:, None] + terms), axis=1)
    return tl.max(violation, axis=1), worst, tl.sum(z * tl.abs(slack), axis=1), tl.sum(z * terms, axis=1)


@triton.jit
def way_of_rows(r):
    """``sum max(lo dz, hi dz)``, and how much nearer the rows have come to sides: [T] each."""
    support = r.dz * tl.where(r.dz > 0, r.hi, tl.where(r.dz < 0, r.lo, 0.0))
    Gdx = r.E * r.Gdx
    up = tl.where(tl.abs(r.hi) == float("inf"), 0.0, tl.maximum(Gdx, 0.0))
    down = tl.where(tl.abs(r.lo) == float("inf"), 0.0, tl.minimum(Gdx, 0.0))
    return tl.sum(support, axis=1), tl.max(up - down, axis=1)


@triton.jit
def put_numbers(out, b, inside, batch, values):
    """Writes the numbers of the problems b [T], one below the other."""
    for k in tl.static_range(len(values)):
        tl.store(out + k * batch + b, values[k], mask=inside)


@triton.jit
def measure(out, b, inside, batch, q, r, bounds, c, h, eps_abs, eps_rel, bounded: tl.constexpr):
    """Writes what :class:`Measure` has, in its order; a maximum leaves out what is not a number, a sum does not."""
    unknown = tl.sum(q.x - q.x, axis=1)
    far = most(q.x / q.D) + unknown
    size_Gx, EGx, Ev, apart, sum_z = sizes_of_rows(r)
    if bounded:
        more_Gx, more_EGx, more_Ev, more_apart, more_z = sizes_of_rows(bounds)
        size_Gx, sum_z = tl.maximum(size_Gx, more_Gx), sum_z + more_z
        EGx, Ev, apart = tl.maximum(EGx, more_EGx), tl.maximum(Ev, more_Ev), tl.maximum(apart, more_apart)
    tolerance = eps_abs + eps_rel * size_Gx
    primal, primal_worst, gap, room = residuals_of_rows(r, far, tolerance)
    support, nearing = way_of_rows(r)
    if bounded:
        more_primal, more_worst, more_gap, more_room = residuals_of_rows(bounds, far, tolerance)
        more_support, more_nearing = way_of_rows(bounds)
        primal, primal_worst = tl.maximum(primal, more_primal), tl.maximum(primal_worst, more_worst)
        gap, room, support = gap + more_gap, room + more_room, support + more_support
        nearing = tl.maximum(nearing, more_nearing)
    stationarity = tl.abs(q.Hx + q.g + q.Gz)
    DHx, Dg, DGz = most(q.D * q.Hx), most(q.D * q.g), most(q.D * q.Gz)
    terms = numbers.ROUNDING * tl.maximum(tl.maximum(h / c * total(q.x / q.D), sum_z), tl.maximum(DHx, Dg))
    dual_tolerance = eps_abs + eps_rel * tl.maximum(most(q.Hx), tl.maximum(most(q.g), most(q.Gz)))
    dual_worst = tl.max(stationarity / (dual_tolerance[:, None] + terms[:, None] / q.D), axis=1)
    objective = tl.abs(tl.sum(q.x * (0.5 * q.Hx + q.g), axis=1))
    gap_tolerance = eps_abs + tl.maximum(eps_abs * objective, eps_rel * objective)
    balance = next_to(apart, tl.maximum(EGx, Ev))
    balance /= next_to(tl.max(q.D * stationarity, axis=1), tl.maximum(DHx, tl.maximum(Dg, DGz)))
    put_numbers(
        out,
        b,
        inside,
        batch,
        (
            primal,
            tl.max(stationarity, axis=1),
            gap,
            primal_worst + unknown,
            dual_worst + unknown,
            gap / (gap_tolerance + room) + unknown,
            far,
            balance,
            support,
            total(q.D * q.Gdz),
            most(q.dx / q.D),
            c * tl.sum(q.g * q.dx, axis=1),
            c * most(q.D * q.Hdx),
            nearing,
        ),
    )
