"""How far a point is from optimal, in the units of the data."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .. import numbers
from ..interface import Options
from .products import Batched, dot, largest, total
from .scaling import Scaling


@dataclass
class Residuals(Batched):
    """The three residuals of each problem, two tolerances, and how near all are to what they may be: [B]."""

    primal: Tensor
    dual: Tensor
    gap: Tensor
    primal_tolerance: Tensor
    dual_tolerance: Tensor
    primal_worst: Tensor  # next to the tolerance and what rounding may leave of it
    dual_worst: Tensor  # the same
    gap_worst: Tensor  # the same

    def worst(self) -> Tensor:
        """The largest of the three next to what it may be: [B]."""
        return torch.maximum(torch.maximum(self.primal_worst, self.dual_worst), self.gap_worst)

    def hold(self) -> Tensor:
        """Whether all three are what they may be: [B]."""
        return self.worst() <= 1


def residuals(
    x: Tensor,  # [B, n]
    z: Tensor,  # [B, m]
    Hx: Tensor,  # [B, n]
    Gx: Tensor,  # [B, m]
    Gz: Tensor,  # [B, n] G'z
    g: Tensor,  # [B|1, n]
    s: Tensor,  # [B|1, m]
    lo: Tensor,  # [B, m] and hi: the sides, shifted by s
    hi: Tensor,  # [B, m]
    scaling: Scaling,
    options: Options,
) -> Residuals:
    """The violation of the rows, ``Hx + g + G'z``, and the sum of ``|z_i|`` times the distance from its side.

    Without the last a point may pass for optimal although its objective is wrong in the fourth digit. No residual need
    be smaller than rounding leaves its terms: those of row i are about ``|x / D| / E_i``, those of column j add up to
    about ``sum |z / E| / D_j``. (The sum of those of a row would hide shifts that are not much larger.)
    """
    row_terms = rounding_of_rows(x, Gx, s, scaling)
    column_terms = numbers.ROUNDING * dual_terms(x, z, Hx, g, scaling).unsqueeze(-1) / scaling.D
    violation, stationarity = (Gx - Gx.clamp(lo, hi)).abs(), (Hx + g + Gz).abs()
    primal_tolerance = options.eps_abs + options.eps_rel * largest(Gx)
    slack = torch.where(z == 0, 0.0, Gx - torch.where(z > 0, hi, lo))
    scale = torch.maximum(largest(Hx), torch.maximum(largest(g), largest(Gz)))
    objective = dot(x, 0.5 * Hx + g).abs()
    dual_tolerance = options.eps_abs + options.eps_rel * scale
    gap_tolerance = options.eps_abs + max(options.eps_abs, options.eps_rel) * objective
    gap = dot(z.abs(), slack.abs())
    return Residuals(
        primal=largest(violation),
        dual=largest(stationarity),
        gap=gap,
        primal_tolerance=primal_tolerance,
        dual_tolerance=dual_tolerance,
        primal_worst=largest(violation / (primal_tolerance.unsqueeze(-1) + row_terms)),
        dual_worst=largest(stationarity / (dual_tolerance.unsqueeze(-1) + column_terms)),
        gap_worst=gap / (gap_tolerance + dot(z.abs(), row_terms)),
    )


def dual_terms(x: Tensor, z: Tensor, Hx: Tensor, g: Tensor, scaling: Scaling) -> Tensor:
    """What the terms of ``D (Hx + g + G'z)`` add up to, about: [B]."""
    of_H = (scaling.h / scaling.c).squeeze(-1) * total(x / scaling.D)
    terms = (of_H, total(z / scaling.E), largest(scaling.D * Hx), largest(scaling.D * g).expand_as(of_H))
    return torch.stack(terms).amax(0)


def rounding_of_rows(x: Tensor, Gx: Tensor, s: Tensor, scaling: Scaling) -> Tensor:
    """What rounding may leave of ``Gx`` next to a side of about its size, shifted by s: [B, m]."""
    return numbers.ROUNDING * (largest(x / scaling.D).unsqueeze(-1) / scaling.E + Gx.abs() + s.abs())


def shifted_sides(lo: Tensor, hi: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
    """The sides after a shift: a row that is shifted holds with equality at every feasible point, and becomes one."""
    return torch.where(s > 0, hi, lo) + s, torch.where(s < 0, lo, hi) + s
