"""The outer loop: measuring a point, ending a problem, moving multipliers, penalties and phases.

The multipliers follow the bound-constrained Lagrangian rule of ProxQP (Bambade, El-Kazdadi, Taylor, Carpentier, RSS
2022). A problem suspected of being infeasible leaves phase AS_POSED for SHIFT, which finds the shift of least norm, and
ends in SHIFTED; a false alarm finds no shift and is then solved as posed.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .. import numbers
from ..interface import Options
from ..numbers import RUNNING, Phase, Status
from .products import Matrices, dot, largest
from .residuals import Residuals, residuals, shifted_sides
from .scaling import Scaling
from .state import State


@dataclass
class Measure(Residuals):
    """Where a problem stands, in the units of the data."""

    violation: Tensor  # [B, m] Gx - clamp(Gx, lo, hi)
    push: Tensor  # [B, n] G' (omega violation), with z for the hard rows of phase SHIFT
    inner_dual: Tensor  # [B, n] gradient of the augmented Lagrangian at (x, z)
    inner_primal: Tensor  # [B, m] d - z / omega


def measure(st: State, matrices: Matrices, options: Options) -> Measure:
    """Residuals and tolerances at the present point."""
    omega = st.omega()
    violation = st.Gx - st.Gx.clamp(st.lo, st.hi)
    pushing = torch.where(st.searches_shift() & st.hard, st.z, omega * violation)
    Gz, push = matrices.columns(torch.stack([st.z, pushing], 1)).unbind(1)
    v = st.Gx + st.z_k / omega
    return Measure(
        **vars(residuals(st.x, st.z, st.Hx, st.Gx, Gz, st.g, st.lo, st.hi, options)),
        violation=violation,
        push=push,
        inner_dual=st.cost_gradient() + Gz + st.prox() * (st.x - st.x_k),
        inner_primal=v - v.clamp(st.lo, st.hi) - st.z / omega,
    )


def verdict(st: State, at: Measure, options: Options) -> Tensor:
    """The status of each problem: [B], RUNNING where it goes on."""
    shifted = (st.s != 0).any(-1)
    solved = (st.phase != Phase.SHIFT) & at.hold() & (~shifted | (st.extra >= numbers.EXTRA_STEPS))
    running = (st.status == RUNNING) & ~solved & (st.steps < options.max_iter)
    status = torch.where(running, RUNNING, Status.MAX_ITERATIONS)
    status = torch.where(solved, torch.where(shifted, Status.SOLVED_CLOSEST_FEASIBLE, Status.SOLVED), status)
    return torch.where(st.status == RUNNING, status, st.status)


def outer_step(st: State, at: Measure, scaling: Scaling, options: Options) -> None:
    """Moves what the inner loop holds fixed, for the problems whose inner loop has ended, in place."""
    st.extra = st.extra + ((st.phase == Phase.SHIFTED) & at.hold())
    scaled = torch.maximum(largest(scaling.c * scaling.D * at.inner_dual), largest(scaling.E * at.inner_primal))
    absolute = torch.maximum(largest(at.inner_dual), largest(at.inner_primal))
    rounding = numbers.INNER_ROUNDING * largest(scaling.c * st.z / scaling.E)
    ended = (scaled <= torch.maximum(st.eta_in, rounding)) | (absolute <= numbers.INNER_FLOOR * options.eps_abs)
    st.status = torch.where(st.rho > numbers.RHO_CEILING, Status.NUMERICAL_ERROR, st.status)

    searching = st.phase == Phase.SHIFT
    found = searching & _shift_found(st, at, scaling, options)
    optimizing = ended & ~searching
    st.status = torch.where(optimizing & _unbounded(st, scaling), Status.UNBOUNDED, st.status)
    suspect = optimizing & (st.phase == Phase.AS_POSED) & _suspect(st, at, scaling)
    moving = optimizing & ~suspect | ended & searching & ~found & st.hard.any(-1)
    _multipliers(st, at, scaling, moving, options)
    st.rho = torch.where(ended & searching & ~found, (st.rho * numbers.RHO_SHRINK).clamp(min=numbers.RHO_FLOOR), st.rho)
    _centre(st, at, ended | found)
    _enter(st, Phase.SHIFT, suspect, options)
    overdue = searching & ~found & (st.steps > st.entered + numbers.SHIFT_STEPS)
    impossible = overdue & (largest(at.violation * st.hard) > at.primal_tolerance)
    st.status = torch.where(impossible, Status.INFEASIBLE, st.status)
    if found.any():
        _shift(st, at, found, options)
    _enter(st, Phase.SHIFTED, found | overdue, options)


def _multipliers(st: State, at: Measure, scaling: Scaling, update: Tensor, options: Options) -> None:
    """Accepts the multipliers where the primal residual meets its target or mu is at its floor, else shrinks mu."""
    floor = numbers.MU_FLOOR_MIXED if options.mixed else numbers.MU_FLOOR
    at_floor = (st.mu_eq <= floor) & (st.mu_in <= floor)
    posed = ~st.searches_shift() | st.hard  # what may be violated has no multipliers
    accept = update & ((largest(scaling.E * at.violation * posed) <= st.eta_out) | at_floor)
    refuse = update & ~accept
    st.z_k = torch.where(accept.unsqueeze(-1) & posed, st.z, st.z_k)
    st.mu_eq = torch.where(refuse, (st.mu_eq * numbers.MU_SHRINK).clamp(min=floor), st.mu_eq)
    st.mu_in = torch.where(refuse, (st.mu_in * numbers.MU_SHRINK).clamp(min=floor), st.mu_in)
    st.eta_out = torch.where(accept, st.eta_out * st.mu_in**numbers.ETA_ACCEPT_POWER, st.eta_out)
    st.eta_out = torch.where(refuse, numbers.FIRST_ETA_OUT * st.mu_in**numbers.ETA_REFUSE_POWER, st.eta_out)
    st.eta_in = torch.where(accept, st.eta_in * st.mu_in, torch.where(refuse, st.mu_in, st.eta_in))

    proximal = largest(st.prox() * (st.x - st.x_k))
    sticky = (
        update & (st.phase != Phase.SHIFT) & (proximal > numbers.RHO_STICKY * at.dual) & (at.dual > at.dual_tolerance)
    )
    st.rho = torch.where(sticky, (st.rho * numbers.RHO_SHRINK).clamp(min=numbers.RHO_FLOOR), st.rho)


def _centre(st: State, at: Measure, move: Tensor) -> None:
    move = move.unsqueeze(-1)
    st.x_k, st.Hx_k = torch.where(move, st.x, st.x_k), torch.where(move, st.Hx, st.Hx_k)
    st.Gx_k = torch.where(move, st.Gx, st.Gx_k)
    st.primal_k = torch.where(move.squeeze(-1), at.primal, st.primal_k)


def _suspect(st: State, at: Measure, scaling: Scaling) -> Tensor:
    """Whether the increment ``v = omega violation`` of the multipliers has ``G'v = 0``, as where no x is feasible."""
    increment = largest(st.omega() * at.violation / scaling.E)
    balance = largest(scaling.D * at.push) / increment
    stagnant = (balance <= numbers.STAGNANT_SUSPICION) & (at.primal >= numbers.STAGNATION * st.primal_k)
    return ((balance <= numbers.SUSPICION) | stagnant) & (at.primal > numbers.SUSPECT_VIOLATION * at.primal_tolerance)


def _unbounded(st: State, scaling: Scaling) -> Tensor:
    """Whether the last step of the centre is a direction of descent with no curvature that approaches no side."""
    d = st.x - st.x_k
    bound = numbers.RECESSION * largest(d / scaling.D)
    Gd = scaling.E * (st.Gx - st.Gx_k)
    approach = torch.where(st.hi.isinf(), 0.0, Gd.clamp(min=0)) - torch.where(st.lo.isinf(), 0.0, Gd.clamp(max=0))
    flat = largest(scaling.c * scaling.D * (st.Hx - st.Hx_k)) <= bound
    descends = scaling.c.squeeze(-1) * dot(st.g, d) < -numbers.DESCENT * bound
    return flat & descends & (largest(approach) <= bound)


def _shift_found(st: State, at: Measure, scaling: Scaling, options: Options) -> Tensor:
    """Whether x is feasible, or the shift s has ``G'(w s) = 0``, up to rounding errors and next to the size of s."""
    push, w = at.push / st.shift_unit, st.metric_shift / st.shift_unit
    kept = largest(at.violation * st.hard) <= numbers.SHIFT_FLOOR * at.primal_tolerance
    scaled, size = largest(scaling.D * push), largest(w * at.violation / scaling.E)
    rounding = (
        numbers.SHIFT_ROUNDING * largest(st.x / scaling.D) * largest((at.violation != 0) * w / scaling.E.square())
    )
    rounded = (scaled <= rounding) & (scaled <= numbers.SHIFT_BALANCE_ROUNDED * size)
    balanced = (scaled <= numbers.SHIFT_BALANCE * size) & (largest(push) <= numbers.SHIFT_ACCURACY * options.eps_abs)
    return (at.primal <= at.primal_tolerance) | ((balanced | rounded) & kept)


def _shift(st: State, at: Measure, found: Tensor, options: Options) -> None:
    """Shifts the rows by their violation, which makes x feasible."""
    small = at.violation.abs() <= numbers.SHIFT_FLOOR * at.primal_tolerance.unsqueeze(-1)
    s = at.violation.masked_fill(small | st.hard, 0.0)
    s = s.masked_fill((~found | (at.primal <= at.primal_tolerance)).unsqueeze(-1), 0.0)
    st.s = st.s + s
    st.lo, st.hi = shifted_sides(st.lo, st.hi, s)
    if not options.closest_feasible:
        st.status = torch.where((s != 0).any(-1), Status.INFEASIBLE, st.status)


def _enter(st: State, phase: Phase, where: Tensor, options: Options) -> None:
    """Begins a phase at the present x with no multipliers and the first penalties."""
    st.phase, st.entered = torch.where(where, phase, st.phase), torch.where(where, st.steps, st.entered)
    st.z, st.z_k = (t.masked_fill(where.unsqueeze(-1), 0.0) for t in (st.z, st.z_k))
    for name, first in (("mu_eq", options.mu_eq), ("mu_in", options.mu_in), ("rho", options.rho)):
        setattr(st, name, getattr(st, name).masked_fill(where, first))
    st.eta_out = st.eta_out.masked_fill(where, numbers.FIRST_ETA_OUT)
    st.eta_in = st.eta_in.masked_fill(where, numbers.SHIFT_INNER if phase == Phase.SHIFT else numbers.FIRST_ETA_IN)
