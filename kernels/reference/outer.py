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
from .residuals import Residuals, dual_terms, residuals, rounding_of_rows, shifted_sides
from .scaling import Scaling
from .state import State, first_rho_of_shift


@dataclass
class Measure(Residuals):
    """Where a problem stands, in the units of the data."""

    violation: Tensor  # [B, m] Gx - clamp(Gx, lo, hi)
    push: Tensor  # [B, n] G' (omega violation), with z for the hard rows of phase SHIFT
    inner_dual: Tensor  # [B, n] gradient of the augmented Lagrangian at (x, z)
    inner_primal: Tensor  # [B, m] d - z / omega


def measure(st: State, matrices: Matrices, scaling: Scaling, options: Options) -> Measure:
    """Residuals and tolerances at the present point."""
    omega = st.omega()
    violation = st.Gx - st.Gx.clamp(st.lo, st.hi)
    pushing = torch.where(st.searches_shift() & st.hard, st.z, omega * violation)
    Gz, push = matrices.columns(torch.stack([st.z, pushing], 1)).unbind(1)
    v = st.Gx + st.multipliers() / omega
    return Measure(
        **vars(residuals(st.x, st.z, st.Hx, st.Gx, Gz, st.g, st.s, st.lo, st.hi, scaling, options)),
        violation=violation,
        push=push,
        inner_dual=st.cost_gradient() + Gz + st.prox() * (st.x - st.x_k),
        inner_primal=v - v.clamp(st.lo, st.hi) - st.z / omega,
    )


def verdict(st: State, at: Measure, options: Options) -> Tensor:
    """The status of each problem: [B], RUNNING where it goes on."""
    shifted = (st.s != 0).any(-1)
    exact = ~shifted | (st.extra >= numbers.EXTRA_STEPS) | (at.worst() <= numbers.EXTRA_ACCURACY)
    solved = (st.phase != Phase.SHIFT) & st.settled & at.hold() & exact
    running = (st.status == RUNNING) & ~solved & (st.steps < options.max_iter)
    status = torch.where(running, RUNNING, Status.MAX_ITERATIONS)
    status = torch.where(solved, torch.where(shifted, Status.SOLVED_CLOSEST_FEASIBLE, Status.SOLVED), status)
    return torch.where(st.status == RUNNING, status, st.status)


def outer_step(st: State, at: Measure, scaling: Scaling, options: Options) -> None:
    """Moves what the inner loop holds fixed, for the problems whose inner loop has ended, in place."""
    st.extra = st.extra + ((st.phase == Phase.SHIFTED) & at.hold())
    running = st.status == RUNNING
    residual, enough = _inner_residual(st, at, scaling, options)
    started = running & (st.steps == 0) & st.settled
    ended = running & (residual <= enough) & ~started
    st.status = torch.where(running & (st.rho > numbers.RHO_CEILING), Status.NUMERICAL_ERROR, st.status)

    searching = running & (st.phase == Phase.SHIFT)
    found, doubtful = (searching & which for which in _shift_found(st, at, scaling, options))
    optimizing = ended & ~searching
    st.status = torch.where(optimizing & _unbounded(st, at, scaling), Status.UNBOUNDED, st.status)
    _bend(st, scaling, optimizing)
    suspect = optimizing & ~(st.s != 0).any(-1) & _suspect(st, at, scaling)
    seeking = ended & searching & ~found
    _multipliers(st, at, scaling, optimizing & ~suspect | seeking & st.hard.any(-1), options)
    st.rho = torch.where(seeking, torch.maximum(st.rho * numbers.RHO_SHRINK, st.rho_floor * numbers.SHIFT_RHO), st.rho)
    _centre(st, at, ended | found)
    overdue = searching & ~found & ((st.steps > st.entered + numbers.SHIFT_STEPS) | doubtful)
    overdue &= (largest(at.violation * st.hard) <= at.primal_tolerance) | (st.mu_in <= st.mu_floor)
    if (found | overdue).any():
        _end_search(st, at, scaling, found, overdue, options)
    enter(st, Phase.SHIFT, suspect, options)
    enter(st, Phase.SHIFTED, (found | overdue) & (st.status == RUNNING), options)
    if started.any():
        _begin_from_start(st, residual, started)


def _inner_residual(st: State, at: Measure, scaling: Scaling, options: Options) -> tuple[Tensor, Tensor]:
    """The residual of the inner loop, scaled, and what is enough: eta_in, or what rounding or the tolerance allows."""
    c, D, E = scaling.c, scaling.D, scaling.E
    scaled = torch.maximum(largest(c * D * at.inner_dual), largest(E * at.inner_primal))
    absolute = torch.maximum(largest(at.inner_dual), largest(at.inner_primal))
    terms = torch.maximum(c.squeeze(-1) * dual_terms(st.x, st.z, st.Hx, st.g, scaling), largest(st.x / D))
    enough = torch.maximum(st.eta_in, numbers.ROUNDING * terms)
    return scaled, torch.where(absolute <= numbers.INNER_FLOOR * options.eps_abs, torch.inf, enough)


def _try_rows(st: State, where: Tensor) -> None:
    """Begins a trial of the active rows."""
    known = st.mu_floor.clamp(min=numbers.KNOWN_MU)
    begins = where & (torch.maximum(st.mu_eq, st.mu_in) > known)
    for name in ("mu_eq", "mu_in"):
        mu = getattr(st, name)
        setattr(st, f"{name}_k", torch.where(begins, mu, getattr(st, f"{name}_k")))
        setattr(st, name, torch.where(begins, torch.minimum(mu, known), mu))
    st.trial, st.wrong = begins | st.trial & ~where, torch.where(begins, -1, st.wrong)


def _begin_from_start(st: State, residual: Tensor, where: Tensor) -> None:
    """Tries the active rows of a start, but drops one that is far; its multipliers wait where the shift is sought."""
    posed = where & (st.phase == Phase.AS_POSED)
    far = posed & (residual > numbers.START_RESIDUAL)
    for name in ("x", "z", "Hx", "Gx"):
        for held in (name, f"{name}_k"):
            setattr(st, held, getattr(st, held).masked_fill(far.unsqueeze(-1), 0.0))
    st.settled = st.settled & ~far
    _try_rows(st, posed & ~far)
    st.z_k = st.z_k.masked_fill(where.unsqueeze(-1) & st.searches_shift() & st.hard, 0.0)
    st.extra = torch.where(where & (st.phase == Phase.SHIFTED), numbers.EXTRA_STEPS, st.extra)


def _multipliers(st: State, at: Measure, scaling: Scaling, update: Tensor, options: Options) -> None:
    """Accepts the multipliers where the primal residual meets its target or mu is at its floor, else shrinks mu."""
    at_floor = (st.mu_eq <= st.mu_floor) & (st.mu_in <= st.mu_floor)
    posed = ~st.searches_shift() | st.hard  # what may be violated has no multipliers
    near = torch.maximum(at.primal_worst, at.gap_worst) <= 1  # as near as need be
    met = (largest(scaling.E * at.violation * posed) <= st.eta_out) | near
    accept = update & (met | at_floor)
    refuse = update & ~accept
    slow = accept & at_floor & ~near & (at.primal > numbers.MU_STALL * st.primal_k)
    if not options.mixed:
        st.mu_floor = torch.where(slow, (st.mu_floor * numbers.MU_SHRINK).clamp(min=numbers.MU_LEAST), st.mu_floor)
    st.z_k = torch.where(accept.unsqueeze(-1) & posed, st.z, st.z_k)
    st.mu_eq, st.mu_in = (
        torch.where(refuse | slow, torch.maximum(mu * numbers.MU_SHRINK, st.mu_floor), mu)
        for mu in (st.mu_eq, st.mu_in)
    )
    mu = st.mu_in.clamp(max=numbers.ETA_MU)
    st.eta_out = torch.where(accept, st.eta_out * mu**numbers.ETA_ACCEPT_POWER, st.eta_out)
    st.eta_out = torch.where(refuse, numbers.FIRST_ETA_OUT * mu**numbers.ETA_REFUSE_POWER, st.eta_out)
    st.eta_in = torch.where(accept, st.eta_in * mu, torch.where(refuse, mu, st.eta_in))
    costs = (scaling.h > 0).squeeze(-1) & (st.phase != Phase.SHIFT)  # without H the active rows seldom suffice
    _try_rows(st, accept & ~slow & st.kept & costs)

    proximal = largest(st.prox() * (st.x - st.x_k))
    sticky = (
        update & (st.phase != Phase.SHIFT) & (proximal > numbers.RHO_STICKY * at.dual) & (at.dual > at.dual_tolerance)
    )
    st.rho = torch.where(sticky, torch.maximum(st.rho * numbers.RHO_SHRINK, st.rho_floor), st.rho)


def _centre(st: State, at: Measure, move: Tensor) -> None:
    move = move.unsqueeze(-1)
    st.x_k, st.Hx_k = torch.where(move, st.x, st.x_k), torch.where(move, st.Hx, st.Hx_k)
    st.Gx_k = torch.where(move, st.Gx, st.Gx_k)
    st.primal_k = torch.where(move.squeeze(-1), at.primal, st.primal_k)


def _suspect(st: State, at: Measure, scaling: Scaling) -> Tensor:
    """Whether the increment ``v = omega violation`` of the multipliers has ``G'v = 0``, as where no x is feasible."""
    increment = largest(st.omega() * at.violation / scaling.E)
    imbalance = largest(scaling.D * at.push) / increment
    balance = imbalance / st.calm
    stagnant = at.primal >= numbers.STAGNATION * st.primal_k
    violated = (at.primal_worst > 1) & (
        (balance <= numbers.SUSPICION) | stagnant & (balance <= numbers.STAGNANT_SUSPICION)
    )
    calm = (st.calm / numbers.CALM).clamp(max=1.0)  # one alarm later, as it is the second at which the sides give way
    gaping = (at.gap_worst > 1) & stagnant & (imbalance <= numbers.SUSPICION * calm)
    return violated | gaping & (at.primal_worst > numbers.SUSPECT_VIOLATION)


def _unbounded(st: State, at: Measure, scaling: Scaling) -> Tensor:
    """Whether the last step d of the centre is a ray: the objective falls along it without curvature, to no side.

    At the end of an inner loop the dual residual is ``-rho P d``, so that along a ray ``g'd = -rho d'P d``.
    """
    d = st.x - st.x_k
    size = largest(d / scaling.D)
    Gd = scaling.E * (st.Gx - st.Gx_k)
    approach = torch.where(st.hi.isinf(), 0.0, Gd.clamp(min=0)) - torch.where(st.lo.isinf(), 0.0, Gd.clamp(max=0))
    curvature = scaling.c.squeeze(-1) * dot(d, st.Hx - st.Hx_k)
    flat = curvature.abs() <= numbers.FLAT * scaling.h.squeeze(-1) * size.square()
    falls = dot(st.g, d) < -numbers.RAY * dot(d, st.prox() * d)
    leaves = size >= numbers.RAY_LENGTH * largest(st.x / scaling.D)
    return flat & falls & leaves & (at.dual_worst > 1) & (largest(approach) <= numbers.RECESSION * size)


def _bend(st: State, scaling: Scaling, where: Tensor) -> None:
    """Adds to H what a step of the centre with negative curvature lacks, or ends the problem where that is too much.

    A matrix ``J J'`` that was computed in float32 has eigenvalues of about -1e-7: what is meant is convex.
    """
    d = st.x - st.x_k
    size = largest(d / scaling.D)
    curvature = scaling.c.squeeze(-1) * dot(d, st.Hx - st.Hx_k) / (d / scaling.D).square().sum(-1)
    h = scaling.h.squeeze(-1)
    noise = numbers.FLAT * h * torch.maximum(size, largest(st.x / scaling.D)) / size
    bent = where & (curvature < -noise)
    bend = torch.where(bent, st.bend - numbers.BEND * curvature, st.bend)
    st.status = torch.where(bent & (bend > numbers.BEND_CEILING * h), Status.NUMERICAL_ERROR, st.status)
    more = (bend - st.bend).unsqueeze(-1) * st.metric_x
    st.Hx, st.Hx_k, st.bend = st.Hx + more * st.x, st.Hx_k + more * st.x_k, bend


def _shift_found(st: State, at: Measure, scaling: Scaling, options: Options) -> tuple[Tensor, Tensor]:
    """Whether x is feasible, or the shift s has ``G'(w s) = 0``, and whether that is in doubt: [B] each.

    It is up to rounding errors and next to the size of s. Where these errors leave much, at the first alarm, the
    problem may as well be feasible: a search among rows or columns of very different sizes can end before x is.
    """
    push, w = at.push / st.shift_unit, st.metric_shift / st.shift_unit
    kept = largest(_hard_residual(st, at)) <= numbers.SHIFT_FLOOR * at.primal_tolerance
    scaled, size = largest(scaling.D * push), largest(w * at.violation / scaling.E)
    terms = (at.violation != 0) * rounding_of_rows(st.x, st.Gx, st.s, scaling) + numbers.ROUNDING * at.violation.abs()
    rounding = (w * terms / scaling.E).sum(-1)
    again = (st.steps > st.entered + 1) & (st.rho < options.rho)
    stagnant = again & (at.primal >= numbers.STAGNATION * st.primal_k)
    near = (at.primal_worst <= numbers.SHIFT_NEAR) & (st.rho <= numbers.SHIFT_FIRST_RHO)
    rounded = stagnant & (scaled <= rounding) & (rounding <= torch.where(near, numbers.SHIFT_NEAR, 1.0) * size)
    balanced = (scaled <= numbers.SHIFT_BALANCE * size) & (largest(push) <= numbers.SHIFT_ACCURACY * options.eps_abs)
    certain = (at.primal_worst <= numbers.SHIFT_FEASIBLE) | (balanced & kept)
    doubtful = (st.calm == 1) & (scaled > torch.where(near, numbers.SHIFT_NEAR_DOUBT, numbers.SHIFT_DOUBT) * size)
    rounded &= kept & ~certain
    return certain | rounded & ~doubtful, rounded & doubtful


def _hard_residual(st: State, at: Measure) -> Tensor:
    """How far the hard rows are from holding, and from the side that their multipliers push against: [B, m]."""
    slack = st.Gx - torch.where(st.z > 0, st.hi, st.lo)
    return torch.where(st.z == 0, at.violation, slack).masked_fill(~st.hard, 0.0)


def _pressing(st: State, at: Measure, scaling: Scaling) -> Tensor:
    """The hard rows that press on the shift: [B, m]."""
    size = largest(st.metric_shift * at.violation.masked_fill(st.hard, 0.0) / scaling.E).unsqueeze(-1)
    return st.hard & ((st.z / scaling.E).abs() > numbers.HARD_PRESSING * size)


def _end_search(st: State, at: Measure, scaling: Scaling, found: Tensor, overdue: Tensor, options: Options) -> None:
    """Moves the sides so that x is feasible: shifts rows by their violation, or relaxes them if that is next to none.

    A violation within the tolerances is no shift: it is not reported, and its row stays an inequality. But the sides
    give way to it, as the method would else tend to another point, of less violation in its own metric and more in the
    user's; not at the first alarm that finds x feasible, as it may be false. As the shift is the least, each x that is
    feasible after it has the shifted rows at their sides and the hard rows that press on it: both become equalities. A
    problem that ends here, its rows being inconsistent, has a ray for multipliers: ``G'z = 0``.
    """
    small = at.violation.abs() <= numbers.SHIFT_FLOOR * at.primal_tolerance.unsqueeze(-1)
    feasible = at.primal_worst <= numbers.SHIFT_FEASIBLE
    false_alarm = feasible & (st.calm == 1)
    moved = torch.where((found & ~false_alarm).unsqueeze(-1), at.violation, 0.0)
    s = moved.masked_fill(small | feasible.unsqueeze(-1) | st.hard, 0.0)
    rest, fixed = moved - s, st.lo == st.hi
    st.lo = st.lo + torch.where(fixed, rest, rest.clamp(max=0.0))
    st.hi = st.hi + torch.where(fixed, rest, rest.clamp(min=0.0))
    st.s = st.s + s
    st.lo, st.hi = shifted_sides(st.lo, st.hi, s)
    pinned = (s != 0).any(-1, keepdim=True) & _pressing(st, at, scaling)
    st.lo, st.hi = torch.where(pinned, st.Gx, st.lo), torch.where(pinned, st.Gx, st.hi)

    infeasible = overdue & (largest(at.violation * st.hard) > at.primal_tolerance)
    if not options.closest_feasible:
        infeasible |= (s != 0).any(-1)
    st.status = torch.where(infeasible, Status.INFEASIBLE, st.status)
    ray = torch.where(st.hard, st.z, st.metric_shift * at.violation) / st.shift_unit
    st.z = torch.where(infeasible.unsqueeze(-1), ray, st.z)
    calmer = torch.where(overdue, numbers.CALM**3, numbers.CALM)
    st.calm = torch.where((found | overdue) & (s == 0).all(-1), st.calm * calmer, st.calm)


def enter(st: State, phase: Phase, where: Tensor, options: Options) -> None:
    """Begins a phase at the present x with the first penalties, and no multipliers but those of a start."""
    shifted = phase == Phase.SHIFTED
    kept = (st.entered == 0) & (st.steps <= 1) & (st.s != 0).any(-1)
    clear = (where & ~kept).unsqueeze(-1)
    st.phase, st.entered = torch.where(where, phase, st.phase), torch.where(where, st.steps, st.entered)
    st.trial = st.trial & ~where
    st.z_k = st.z_k.masked_fill(clear, 0.0)
    st.z = torch.where(where.unsqueeze(-1), st.z_k, st.z)
    known = st.mu_floor.clamp(min=numbers.KNOWN_MU, max=options.mu_eq)
    st.mu_eq = torch.where(where, known if shifted else options.mu_eq, st.mu_eq)
    st.mu_in = st.mu_in.masked_fill(where, options.mu_in)
    st.rho = torch.where(where, options.rho if shifted else first_rho_of_shift(st.hard), st.rho)
    st.eta_out = st.eta_out.masked_fill(where, numbers.FIRST_ETA_OUT)
    st.eta_in = st.eta_in.masked_fill(where, numbers.FIRST_ETA_IN if shifted else numbers.SHIFT_INNER)
