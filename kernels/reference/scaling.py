"""Equilibration as vectors: the data is never scaled.

Ruiz (A scaling algorithm to equilibrate both rows and columns norms in matrices, 2001) finds diagonal D and E, and a
cost scale c, for which ``c D H D`` and ``E G D`` have rows and columns of size about 1. D and 1 / E then take the unit
of x, so that ``x / D``, ``E lo`` and ``c D g`` are of size about 1 too, in whatever units the data are. The solver
works in the units of the data; the scaling enters only as the metric in which it weighs rows and steps:
``E_i^2 / c``, ``1 / (c D_j^2)``.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from .. import numbers
from .products import Batched, Matrices, largest


@dataclass
class Scaling(Batched):
    """The metric of a batch of problems; what the matrices alone say is shared where they are."""

    columns: Tensor  # [B|1, n] D in the unit of x
    rows: Tensor  # [B|1, m] E times that unit
    unit: Tensor  # [B|1, 1] of x
    c: Tensor  # [B|1, 1]
    h: Tensor  # [B|1, 1] the largest entry of c D H D, 0 without H

    @cached_property
    def D(self) -> Tensor:  # noqa: N802
        """[B|1, n]."""
        return self.unit * self.columns

    @cached_property
    def E(self) -> Tensor:  # noqa: N802
        """[B|1, m]."""
        return self.rows / self.unit

    def row_unit(self, w: Tensor) -> Tensor:
        """The factor that brings the weights w [B|1, m] of shifts to about E^2, as equilibrated rows have: [B|1, 1].

        In the mean of logarithms: the bounds of an x of the size 1e-10 have an E of 1e10, next to which no other shift
        would be of a usual size.
        """
        if not w.shape[-1]:
            return torch.ones_like(self.c)
        return (2 * self.E.log().mean(-1, keepdim=True) - w.log().mean(-1, keepdim=True)).exp()


def measure_scaling(matrices: Matrices, g: Tensor, lo: Tensor, hi: Tensor, equilibrate: bool) -> Scaling:
    """The metric of the solve: of a few passes of Ruiz and the unit of x, or of the data as they are."""
    D, E = _ruiz(matrices, torch.ones_like(g[:1]), numbers.RUIZ_PASSES if equilibrate else 0)
    sizes = torch.zeros_like(D) if matrices.H is None else (matrices.H * D.unsqueeze(-2)).abs_().amax(-1) * D
    c, unit = torch.ones_like(D[:1, :1]), torch.ones_like(D[:1, :1])
    if equilibrate:
        curvature, slope = sizes.mean(-1, keepdim=True), largest(D * g).unsqueeze(-1)
        confined = (sizes == 0).any(-1, keepdim=True)
        if matrices.bounded:
            confined = confined | (lo.isfinite() & hi.isfinite())[:, -g.shape[-1] :].all(-1, keepdim=True)
        unit = _unit(E, lo, hi, confined, curvature, slope)
        size = unit * torch.maximum(unit * curvature, slope)
        c = torch.where(size > 0, 1 / size, 1 / unit)
    return Scaling(D, E, unit, c, c * unit.square() * sizes.amax(-1, keepdim=True))


def _ruiz(matrices: Matrices, D: Tensor, passes: int) -> tuple[Tensor, Tensor]:
    """D [B|1, n] and E [B|1, m], from ones."""
    E = [torch.ones_like(G[:1, :, 0]) for G in matrices.blocks]
    for _ in range(passes):
        blocks = [(G * D.unsqueeze(-2) * e.unsqueeze(-1)).abs_() for G, e in zip(matrices.blocks, E, strict=True)]
        columns = [G.amax(-2) for G in blocks]
        if matrices.H is not None:
            columns.append((matrices.H * D.unsqueeze(-2)).abs_().amax(-1) * D)
        E = [e * _inverse_root(G.amax(-1)) for G, e in zip(blocks, E, strict=True)]
        for column in columns[1:]:
            columns[0] = torch.maximum(columns[0], column)
        if columns:
            D = D * _inverse_root(columns[0])
    batch = max(t.shape[0] for t in (D, *E))
    stored = torch.cat([e.expand(batch, -1) for e in (*E, D[:, :0])], -1)
    bounds = (1 / D if matrices.bounded else D[:, :0]).expand(batch, -1)
    return D, torch.cat([_with_ceiling(stored, bounds), bounds], -1)


def _unit(E: Tensor, lo: Tensor, hi: Tensor, confined: Tensor, curvature: Tensor, slope: Tensor) -> Tensor:
    """About how large x is, equilibrated, as a power of two, which leaves no rounding error: [B|1, 1].

    That is the minimum of the cost alone, or the farthest side if that is nearer and confines x: as all x are bounded,
    or some have no curvature. And it is no nearer than the sides that 0 violates.
    """
    size = torch.where(curvature > 0, slope / curvature, torch.inf)
    if E.shape[-1]:
        sides = torch.maximum(lo.abs().nan_to_num(posinf=0.0), hi.abs().nan_to_num(posinf=0.0))
        farthest = (E * sides).amax(-1, keepdim=True)
        size = torch.where(confined & (farthest > 0), torch.minimum(size, farthest), size)
        size = torch.maximum(size, (E * torch.maximum(lo, -hi).clamp(min=0)).amax(-1, keepdim=True))
    known = (size > 0) & size.isfinite()
    return torch.where(known, size, 1.0).log2().round().clamp(-numbers.UNIT_POWER, numbers.UNIT_POWER).exp2()


def _with_ceiling(E: Tensor, bounds: Tensor) -> Tensor:
    """E of the stored rows, but that of the largest where a row is next to nothing beside that or any bound: [B|1, m].

    A bound is as large as the unit of its x is small: beside those of the smallest size all rows have to count.
    """
    if not E.shape[-1]:
        return E
    least = E.amin(-1, keepdim=True)
    if bounds.shape[-1]:
        least = torch.minimum(least, bounds.amax(-1, keepdim=True))
    return torch.where(least <= numbers.ZERO_ROW * E, least, E)


def _inverse_root(size: Tensor) -> Tensor:
    """1 / sqrt(size), and 1 where a row or column is zero."""
    return torch.where(size > 0, size, 1.0).rsqrt()
