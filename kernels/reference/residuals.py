"""How far a point is from optimal, in the units of the data."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..interface import Options
from .products import Batched, dot, largest


@dataclass
class Residuals(Batched):
    """The three residuals of each problem and what each may be: [B]."""

    primal: Tensor
    dual: Tensor
    gap: Tensor
    primal_tolerance: Tensor
    dual_tolerance: Tensor
    gap_tolerance: Tensor

    def worst(self) -> Tensor:
        """The largest of the three next to its tolerance: [B]."""
        primal, dual = self.primal / self.primal_tolerance, self.dual / self.dual_tolerance
        return torch.maximum(torch.maximum(primal, dual), self.gap / self.gap_tolerance)

    def hold(self) -> Tensor:
        """Whether all three are within their tolerances: [B]."""
        primal, dual = self.primal <= self.primal_tolerance, self.dual <= self.dual_tolerance
        return primal & dual & (self.gap <= self.gap_tolerance)


def residuals(
    x: Tensor,  # [B, n]
    z: Tensor,  # [B, m]
    Hx: Tensor,  # [B, n]
    Gx: Tensor,  # [B, m]
    Gz: Tensor,  # [B, n] G'z
    g: Tensor,  # [B|1, n]
    lo: Tensor,  # [B, m]
    hi: Tensor,  # [B, m]
    options: Options,
) -> Residuals:
    """The violation of the rows, ``Hx + g + G'z``, and the sum of ``|z_i|`` times the distance from its side.

    Without the last a point may pass for optimal although its objective is wrong in the fourth digit.
    """
    slack = torch.where(z == 0, 0.0, Gx - torch.where(z > 0, hi, lo))
    scale = torch.maximum(largest(Hx), torch.maximum(largest(g), largest(Gz)))
    objective = dot(x, 0.5 * Hx + g).abs()
    return Residuals(
        primal=largest(Gx - Gx.clamp(lo, hi)),
        dual=largest(Hx + g + Gz),
        gap=dot(z.abs(), slack.abs()),
        primal_tolerance=options.eps_abs + options.eps_rel * largest(Gx),
        dual_tolerance=options.eps_abs + options.eps_rel * scale,
        gap_tolerance=options.eps_abs + max(options.eps_abs, options.eps_rel) * objective,
    )


def shifted_sides(lo: Tensor, hi: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
    """The sides after a shift: a row that is shifted holds with equality at every feasible point, and becomes one."""
    return torch.where(s > 0, hi, lo) + s, torch.where(s < 0, lo, hi) + s
