"""Some iterations of ADMM from one measured point to the next, and what the solve asks of the next one."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .. import numbers
from ..interface import Options, Rows, Vectors
from .products import Batched, Matrices, dot, largest, total
from .residuals import residuals
from .scaling import Scaling
from .splitting import Operators, iterate


@dataclass
class Point(Batched):
    """Where the problems are, and the products there."""

    x: Tensor  # [B, n]
    z: Tensor  # [B, m]
    v: Tensor  # [B, m] what stands for G x, within the sides
    Hx: Tensor  # [B, n]
    Gx: Tensor  # [B, m]
    Gz: Tensor  # [B, n] G'z

    @classmethod
    def begin(cls, rows: Rows, matrices: Matrices, start: Vectors | None) -> Point:
        """Zero, or a start."""
        new, batch = rows.g.new_zeros, rows.batch
        if start is None:
            columns, side = new(batch, rows.n), new(batch, rows.m)
            return cls(columns, side, side.clamp(rows.lo, rows.hi), columns, side, columns)
        x, z, _ = start
        Gx = matrices.rows(x)
        return cls(x, z, Gx.clamp(rows.lo, rows.hi), matrices.hessian(x), Gx, matrices.columns(z))


@dataclass
class Posed(Batched):
    """What the problems ask, and in which metric."""

    g: Tensor  # [B|1, n]
    lo: Tensor  # [B, m]
    hi: Tensor  # [B, m]
    s: Tensor  # [B|1, m] by which the sides are shifted
    scaling: Scaling


@dataclass
class Measure(Batched):
    """Where each problem stands, and how it came there from the last measured point: [B]."""

    primal: Tensor  # the residuals
    dual: Tensor
    gap: Tensor
    primal_worst: Tensor  # and next to what they may be
    dual_worst: Tensor
    gap_worst: Tensor
    far: Tensor  # max |x / D|
    balance: Tensor  # the primal residual next to its terms, over the dual one next to its own
    support: Tensor  # sum max(lo dz, hi dz), of sides that there are
    pull: Tensor  # sum |D G'dz|, and at most so much of the dz towards sides that there are not
    stride: Tensor  # max |dx / D|
    slope: Tensor  # c g'dx
    curvature: Tensor  # max |c D H dx|
    nearing: Tensor  # max E |G dx|, towards sides that there are

    def hold(self) -> Tensor:
        """Whether the residuals are what they may be: [B]."""
        return torch.stack([self.primal_worst, self.dual_worst, self.gap_worst]).amax(0) <= 1


def advance(
    point: Point, posed: Posed, matrices: Matrices, by: Operators, options: Options, count: int
) -> tuple[Point, Measure]:
    """So many iterations, or none, and the measure of the point where they end."""
    dual = point.Hx + posed.g + point.Gz
    told = (dual, point.z, point.v - point.Gx, posed.lo - point.Gx, posed.hi - point.Gx)
    dual, z, v, lo, hi = (t.to(by.inverse.dtype) for t in told)
    way = iterate(matrices.single or matrices, by, dual, z, v, lo, hi, count)
    x, v = point.x + way.dx, (point.Gx + way.v).clamp(posed.lo, posed.hi)
    z = torch.where(way.dz == -z, 0.0, point.z + way.dz)  # not the rounding error of z where a row is inactive
    after = Point(x, z, v, matrices.hessian(x), matrices.rows(x), matrices.columns(z))
    return after, measure(point, after, posed, options)


def measure(before: Point, after: Point, posed: Posed, options: Options) -> Measure:
    """That of the later point."""
    x, z, v, Hx, Gx, Gz = vars(after).values()
    g, lo, hi, s, scaling = vars(posed).values()
    c, D, E = scaling.c, scaling.D, scaling.E
    found = residuals(x, z, Hx, Gx, Gz, g, s, lo, hi, scaling, options)
    primal = relative(*(largest(E * t) for t in (Gx - v, Gx, v)))
    dual = relative(*(largest(D * t) for t in (Hx + g + Gz, Hx, Gz, g)))
    dx, dz, Gdx = x - before.x, z - before.z, E * (Gx - before.Gx)
    nearing = torch.where(hi.isinf(), 0.0, Gdx.clamp(min=0)) - torch.where(lo.isinf(), 0.0, Gdx.clamp(max=0))
    side = torch.where(dz > 0, hi, torch.where(dz < 0, lo, 0.0))  # that a multiplier moves towards
    return Measure(
        found.primal,
        found.dual,
        found.gap,
        found.primal_worst,
        found.dual_worst,
        found.gap_worst,
        far=largest(x / D),
        balance=primal / dual,
        support=torch.where(side.isinf(), 0.0, dz * side).sum(-1),
        pull=total(D * (Gz - before.Gz)) + x.shape[-1] * total(torch.where(side.isinf(), dz / E, 0.0)),
        stride=largest(dx / D),
        slope=c.squeeze(-1) * dot(g.expand_as(dx), dx),
        curvature=largest(c * D * (Hx - before.Hx)),
        nearing=largest(nearing),
    )


def relative(residual: Tensor, *terms: Tensor) -> Tensor:
    """A residual next to the largest of its terms: [B]."""
    largest_term = torch.stack(torch.broadcast_tensors(*terms)).amax(0)
    found = residual / largest_term
    return torch.where(largest_term > 0, found, 0.0).clamp(min=numbers.ADMM_RESIDUAL)
