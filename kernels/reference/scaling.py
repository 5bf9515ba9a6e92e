"""Equilibration as vectors: the data is never scaled.

Ruiz (A scaling algorithm to equilibrate both rows and columns norms in matrices, 2001) finds diagonal D and E, and a
cost scale c, for which ``c D H D`` and ``E G D`` have rows and columns of size about 1. The solver works in the units
of the data; the scaling enters only as the metric in which it weighs rows and steps: ``E_i^2 / c``, ``1 / (c D_j^2)``.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .. import numbers
from .products import Batched, Matrices, largest


@dataclass
class Scaling(Batched):
    """The metric of a batch of problems."""

    D: Tensor  # [B|1, n]
    E: Tensor  # [B|1, m]
    c: Tensor  # [B|1, 1]
    h: Tensor  # [B|1, 1] the largest entry of c D H D, 0 without H

    def row_unit(self, w: Tensor) -> Tensor:
        """The factor that brings the weights w [B|1, m] of shifts to about E^2, as equilibrated rows have: [B|1, 1]."""
        if not w.shape[-1]:
            return torch.ones_like(self.c)
        return self.E.square().mean(-1, keepdim=True) / w.log().mean(-1, keepdim=True).exp()


def measure_scaling(matrices: Matrices, g: Tensor, equilibrate: bool) -> Scaling:
    """The metric of the solve: of a few passes of Ruiz, or of the data as they are."""
    D = torch.ones_like(g[:1])
    E = [torch.ones_like(G[:1, :, 0]) for G in matrices.blocks]
    for _ in range(numbers.RUIZ_PASSES if equilibrate else 0):
        blocks = [(G * D.unsqueeze(-2) * e.unsqueeze(-1)).abs_() for G, e in zip(matrices.blocks, E, strict=True)]
        columns = [G.amax(-2) for G in blocks]
        if matrices.H is not None:
            columns.append((matrices.H * D.unsqueeze(-2)).abs_().amax(-1) * D)
        E = [e * _inverse_root(G.amax(-1)) for G, e in zip(blocks, E, strict=True)]
        for column in columns[1:]:
            columns[0] = torch.maximum(columns[0], column)
        if columns:
            D = D * _inverse_root(columns[0])
    if matrices.bounded:
        E.append(1 / D)
    batch = max(t.shape[0] for t in (D, *E))
    c = _cost_scale(matrices.H, g, D) if equilibrate else torch.ones_like(D[:1, :1])
    h = c * 0 if matrices.H is None else c * ((matrices.H * D.unsqueeze(-2)).abs_().amax(-1) * D).amax(-1, keepdim=True)
    return Scaling(D, _with_ceiling(torch.cat([e.expand(batch, -1) for e in (*E, D[:, :0])], -1)), c, h)


def _with_ceiling(E: Tensor) -> Tensor:
    """E, but that of the largest row where a row is next to nothing beside that: [B|1, m]."""
    least = E.amin(-1, keepdim=True) if E.shape[-1] else E
    return torch.where(least <= numbers.ZERO_ROW * E, least, E)


def _cost_scale(H: Tensor | None, g: Tensor, D: Tensor) -> Tensor:
    """``1 / max(mean column size of D H D, max |D g|)``."""
    size = largest(D * g)
    if H is not None:
        size = torch.maximum(size, ((H * D.unsqueeze(-2)).abs_().amax(-1) * D).mean(-1))
    return torch.where(size > 0, 1 / size, 1.0).unsqueeze(-1)


def _inverse_root(size: Tensor) -> Tensor:
    """1 / sqrt(size), and 1 where a row or column is zero."""
    return torch.where(size > 0, size, 1.0).rsqrt()
