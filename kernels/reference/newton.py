"""The inner loop: semi-smooth Newton on the augmented Lagrangian, with an exact line search.

    phi(x) = sigma (1/2 x'Hx + g'x) + 1/2 ||x - x_k||_P^2 + sum_i omega_i / 2 d_i(x)^2
    d(x)   = v - clamp(v, lo, hi),  v = G x + z_k / omega

The step solves ``(sigma H + P + G_J' Omega G_J) dx = -grad phi`` on the active rows J (Bambade, El-Kazdadi, Taylor,
Carpentier: ProxQP, RSS 2022).
"""

from __future__ import annotations

import torch
from torch import Tensor

from .. import numbers
from ..numbers import RUNNING, Phase, Status
from .factor import Factor
from .products import Matrices, dot, largest
from .scaling import Scaling
from .state import State


def newton_step(st: State, matrices: Matrices, scaling: Scaling) -> None:
    """One step of every problem, in place; where the factorization fails, rho grows and x stays."""
    omega, P = st.omega(), st.prox()
    v, seen = st.Gx + st.multipliers() / omega, st.seen(omega)
    up, down = seen >= st.hi, seen <= st.lo
    d = torch.where(up, v - st.hi, torch.where(down, v - st.lo, 0.0))
    z_trial = omega * d
    gradient = st.cost_gradient() + matrices.columns(z_trial) + P * (st.x - st.x_k)

    costs = st.phase != Phase.SHIFT
    sigma = costs.to(st.x.dtype)
    diagonal = P + sigma.unsqueeze(-1) * st.curvature()
    factor = Factor(matrices, (up | down) * omega, diagonal, None if costs.all() else sigma)
    dx = -factor.solve(gradient)
    failed = (factor.info > 0) | ~dx.isfinite().all(-1)
    dx = dx.masked_fill(failed.unsqueeze(-1), 0.0)

    X = torch.stack([st.x, dx], 1)
    (Hx, Hdx), (Gx, Gdx) = (matrices.hessian(X) + st.curvature().unsqueeze(1) * X).unbind(1), matrices.rows(X).unbind(1)
    slop = numbers.ACTIVE_ROUNDING * largest(st.x / scaling.D).unsqueeze(-1) / scaling.E
    carried, wrong = _full_step(z_trial + omega * Gdx, v + Gdx, up, down, st.lo - slop, st.hi + slop)
    same = wrong == 0
    curvature = sigma * dot(dx, Hdx) + dot(dx, P * dx)
    slope = dot(dx, st.cost_gradient() + P * (st.x - st.x_k))
    alpha = torch.ones_like(slope)
    search = (st.open & ~(same | failed | st.trial)).nonzero().squeeze(-1)
    if len(search):
        pick = [t[search] for t in (slope, curvature, v, Gdx, st.lo, st.hi, omega)]
        alpha[search] = exact_line_search(*pick)

    a = alpha.unsqueeze(-1)
    st.x = st.x + a * dx
    st.Hx, st.Gx = Hx + a * Hdx, Gx + a * Gdx
    v = v + a * Gdx
    measured = omega * (v - v.clamp(st.lo, st.hi))
    st.z = torch.where(failed.unsqueeze(-1), st.z, torch.where(same.unsqueeze(-1), carried, measured))
    stiff = failed & (st.mu_in < numbers.MU_FLOOR)  # the rows are too heavy for this H, or rho is too small
    st.mu_eq, st.mu_in, st.mu_floor = (
        torch.where(stiff, mu / numbers.MU_SHRINK, mu) for mu in (st.mu_eq, st.mu_in, st.mu_floor)
    )
    st.rho = torch.where(failed & ~stiff, st.rho * numbers.RHO_GROWTH, st.rho)
    st.rho_floor = torch.where(failed & ~stiff & costs, st.rho, st.rho_floor)
    light = st.rho * torch.minimum(st.mu_eq, st.mu_in) >= numbers.INDEFINITE
    indefinite = failed & costs & light & (scaling.h > 0).squeeze(-1)
    st.status = torch.where(indefinite & (st.status == RUNNING), Status.NUMERICAL_ERROR, st.status)
    st.settled, st.kept = ~failed, same & ~failed
    st.steps = st.steps + 1
    _judge_trial(st, wrong, failed)


def _full_step(z: Tensor, v: Tensor, up: Tensor, down: Tensor, lo: Tensor, hi: Tensor) -> tuple[Tensor, Tensor]:
    """The multipliers after a full step, and how many rows are not as active there as they should be: [B, m], [B].

    Adding the step to the multipliers, rather than measuring ``omega d`` anew, leaves no rounding error of ``omega Gx``
    in the dual residual. For the same reason it is the sign of the multiplier that tells whether an active row stays
    so, and an inactive row may pass its side by a rounding error.
    """
    wrong = torch.where(up, ~down & (z < 0), torch.where(down, z > 0, (v > hi) | (v < lo)))
    return torch.where(up | down, z, 0.0), wrong.sum(-1)


def _judge_trial(st: State, wrong: Tensor, failed: Tensor) -> None:
    """Ends a trial where no row is wrong, and undoes it where not fewer are than before.

    Its steps are full ones on rows that are all but equalities, those of a primal-dual active set method
    (Hintermueller, Ito, Kunisch: SIAM J. Optimization 2002), which ends in a few steps if it begins near enough.
    """
    bound = torch.where(st.wrong < 0, numbers.TRIAL_WRONG, st.wrong)
    undo = st.trial & (failed | (wrong > 0) & (wrong >= bound))
    for name in ("x", "z", "Hx", "Gx"):
        setattr(st, name, torch.where(undo.unsqueeze(-1), getattr(st, f"{name}_k"), getattr(st, name)))
    st.mu_eq, st.mu_in = torch.where(undo, st.mu_eq_k, st.mu_eq), torch.where(undo, st.mu_in_k, st.mu_in)
    st.trial = st.trial & ~undo & (wrong > 0)
    st.wrong = torch.where(st.trial, wrong, -1)


def exact_line_search(
    slope: Tensor,  # [B] derivative at 0 of the smooth part of phi(x + alpha dx)
    curvature: Tensor,  # [B] its second derivative
    v: Tensor,  # [B, m]
    w: Tensor,  # [B, m] G dx
    lo: Tensor,  # [B, m]
    hi: Tensor,  # [B, m]
    omega: Tensor,  # [B, m]
) -> Tensor:
    """The minimiser over alpha > 0: a root of phi', which increases and is piecewise linear, by bracketed Newton."""
    weighted = omega * w
    alpha, left, right = torch.ones_like(slope), torch.zeros_like(slope), torch.full_like(slope, torch.inf)
    for _ in range(numbers.LINE_SEARCH_TRIALS):
        t = torch.addcmul(v, alpha.unsqueeze(-1), w)
        d = t - t.clamp(lo, hi)
        value = slope + alpha * curvature + dot(weighted, d)
        rises = value < 0
        left, right = torch.where(rises, alpha, left), torch.where(rises, right, alpha)
        newton = alpha - value / (curvature + dot(weighted, w * (d != 0)))
        inside = (newton >= left) & (newton <= right)
        following = torch.where(inside, newton, 0.5 * (left + right))
        moved = (following - alpha).abs() > numbers.LINE_SEARCH_ACCURACY * alpha
        alpha = following
        if not moved.any():
            break
    return alpha
