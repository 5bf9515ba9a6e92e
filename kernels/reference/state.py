"""The running problems: iterates, multipliers and penalties, one row each."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .. import numbers
from ..interface import Options, Vectors
from ..numbers import RUNNING, Phase
from .products import Batched, Matrices, largest
from .scaling import Scaling


@dataclass
class State(Batched):
    """What one problem carries from one Newton step to the next."""

    index: Tensor  # [B] the problem's place in the caller's batch
    g: Tensor  # [B|1, n]
    lo: Tensor  # [B, m] as posed, and shifted from phase SHIFTED on
    hi: Tensor  # [B, m]
    metric_rows: Tensor  # [B|1, m] E^2 / c
    metric_x: Tensor  # [B|1, n] 1 / (c D^2)
    hard: Tensor  # [B|1, m] bool, never shifted
    metric_shift: Tensor  # [B|1, m] the weight of each row in phase SHIFT
    shift_unit: Tensor  # [B|1, 1] the same of a row with w = 1
    x: Tensor  # [B, n]
    z: Tensor  # [B, m]
    s: Tensor  # [B, m]
    Hx: Tensor  # [B, n]
    Gx: Tensor  # [B, m]
    x_k: Tensor  # [B, n] centre of the proximal term
    z_k: Tensor  # [B, m] accepted multipliers
    Hx_k: Tensor  # [B, n]
    Gx_k: Tensor  # [B, m]
    primal_k: Tensor  # [B] primal residual at x_k
    phase: Tensor  # [B] of Phase
    status: Tensor  # [B] RUNNING, or how it ended
    open: Tensor  # [B] bool, whether its answer is still to be written
    steps: Tensor  # [B]
    entered: Tensor  # [B] the step at which the phase began
    extra: Tensor  # [B] steps made since the shifted problem was solved
    mu_eq: Tensor  # [B]
    mu_in: Tensor  # [B]
    rho: Tensor  # [B]
    bend: Tensor  # [B] what is added to H, in the metric of x, where that is a little indefinite
    settled: Tensor  # [B] bool, whether the last step had a factor, or there is a start: else nothing is solved yet
    kept: Tensor  # [B] bool, whether the last step was full, and left the active rows as they were
    trial: Tensor  # [B] bool, whether the active rows are being tried as those of the solution
    wrong: Tensor  # [B] rows that were wrong after the last step of the trial, -1 before its first
    mu_eq_k: Tensor  # [B] and mu_in_k: the penalties before the trial
    mu_in_k: Tensor  # [B]
    mu_floor: Tensor  # [B] below which the penalties do not shrink
    rho_floor: Tensor  # [B] the same of rho
    calm: Tensor  # [B] what the thresholds of suspicion are times, less after each false alarm
    eta_out: Tensor  # [B] primal residual that accepts the multipliers, scaled
    eta_in: Tensor  # [B] residual that ends the inner loop, scaled

    def omega(self) -> Tensor:
        """The weight of each row's violation: E^2 / (c mu), and in phase SHIFT that of its shift, if it may shift."""
        omega = self.metric_rows / self._by_row(self.mu_eq, self.mu_in)
        return torch.where(self.searches_shift() & ~self.hard, self.metric_shift, omega)

    def first_of_trial(self) -> Tensor:
        """Whether the next step is the first of a trial: [B]."""
        return self.trial & (self.wrong < 0)

    def seen(self, omega: Tensor) -> Tensor:
        """``G x + z_k / omega``, by which rows are active; at first a trial has the rows of the penalties before."""
        before = self.metric_rows / self._by_row(self.mu_eq_k, self.mu_in_k)
        return self.Gx + self.multipliers() / torch.where(self.first_of_trial().unsqueeze(-1), before, omega)

    def multipliers(self) -> Tensor:
        """The accepted multipliers; in phase SHIFT only hard rows have some, those of a start wait in z_k."""
        return self.z_k.masked_fill(self.searches_shift() & ~self.hard, 0.0)

    def _by_row(self, mu_eq: Tensor, mu_in: Tensor) -> Tensor:
        return torch.where(self.lo == self.hi, mu_eq.unsqueeze(-1), mu_in.unsqueeze(-1))

    def prox(self) -> Tensor:
        """The weight of each entry of x - x_k: rho / (c D^2)."""
        return self.rho.unsqueeze(-1) * self.metric_x

    def curvature(self) -> Tensor:
        """What the bend adds to the diagonal of H: [B, n]."""
        return self.bend.unsqueeze(-1) * self.metric_x

    def searches_shift(self) -> Tensor:
        """Whether a problem is in phase SHIFT: [B, 1]."""
        return (self.phase == Phase.SHIFT).unsqueeze(-1)

    def cost_gradient(self) -> Tensor:
        """``sigma (H x + g)``: the cost counts in all phases but SHIFT."""
        return torch.where(self.searches_shift(), 0.0, self.Hx + self.g)


def begin(
    g: Tensor,  # [B|1, n]
    lo: Tensor,  # [B, m]
    hi: Tensor,  # [B, m]
    w: Tensor,  # [B|1, m]
    hard: Tensor,  # [B|1, m] bool
    matrices: Matrices,
    scaling: Scaling,
    options: Options,
    start: Vectors | None,
) -> State:
    """The first iterate: zero, or the warm start, whose shifted problems ask first whether their shift still is one."""
    (B, m), n = lo.shape, g.shape[-1]
    new = g.new_zeros
    x = new(B, n) if start is None else start.x.clone()
    z = new(B, m) if start is None else start.z.clone()
    searching = torch.zeros(B, dtype=torch.bool, device=g.device) if start is None else (start.s != 0).any(-1)
    phase = Phase.SHIFT * searching.long()
    Hx, Gx = matrices.hessian(x), matrices.rows(x)
    shift_unit = _shift_unit(w, hard, scaling)
    fill = torch.full_like
    one = x.new_ones(B)
    return State(
        index=torch.arange(B, device=x.device),
        g=g,
        lo=lo,
        hi=hi,
        metric_rows=scaling.E.square() / scaling.c,
        metric_x=1 / (scaling.c * scaling.D.square()),
        hard=hard,
        metric_shift=shift_unit * w,
        shift_unit=shift_unit,
        x=x,
        z=z,
        s=new(B, m),
        Hx=Hx,
        Gx=Gx,
        x_k=x,
        z_k=z,
        Hx_k=Hx,
        Gx_k=Gx,
        primal_k=one * torch.inf,
        phase=phase,
        status=fill(phase, RUNNING),
        open=fill(phase, True, dtype=torch.bool),
        steps=torch.zeros_like(phase),
        entered=torch.zeros_like(phase),
        extra=torch.zeros_like(phase),
        mu_eq=one * options.mu_eq,
        mu_in=one * options.mu_in,
        rho=torch.where(searching, first_rho_of_shift(hard), options.rho * one),
        bend=0 * one,
        settled=((x != 0).any(-1) | (z != 0).any(-1)),
        kept=fill(phase, False, dtype=torch.bool),
        trial=fill(phase, False, dtype=torch.bool),
        wrong=fill(phase, -1),
        mu_eq_k=one * options.mu_eq,
        mu_in_k=one * options.mu_in,
        mu_floor=one * (numbers.MU_FLOOR_MIXED if options.mixed else numbers.MU_FLOOR),
        rho_floor=numbers.RHO_FLOOR * torch.where(scaling.h > 0, scaling.h.clamp(max=1.0), 1.0).squeeze(-1) * one,
        calm=one,
        eta_out=one * numbers.FIRST_ETA_OUT,
        eta_in=torch.where(searching, numbers.SHIFT_INNER, numbers.FIRST_ETA_IN * one),
    )


def first_rho_of_shift(hard: Tensor) -> Tensor:
    """The proximal term that phase SHIFT begins with: [B|1]."""
    return torch.where(hard.any(-1), numbers.SHIFT_FIRST_RHO_HARD, numbers.SHIFT_FIRST_RHO)


def _shift_unit(w: Tensor, hard: Tensor, scaling: Scaling) -> Tensor:
    """What w is times in phase SHIFT: [B|1, 1].

    Beside hard rows the heaviest shift weighs as its row does with mu = 1, so that these and the proximal term outweigh
    the curvature of the shifts, which is at most about that. Elsewhere only the proportions of the weights matter.
    """
    heaviest = largest(torch.where(hard, 0.0, w / scaling.E.square())).unsqueeze(-1)
    known = hard.any(-1, keepdim=True) & (heaviest > 0)
    return torch.where(known, 1 / heaviest, scaling.row_unit(w)) / scaling.c
