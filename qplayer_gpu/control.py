"""Receding-horizon control as a small dense QP: the states are eliminated, and the inputs are what is left."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from .errors import ProblemError


class Condensed(NamedTuple):
    """A control problem in its inputs alone; the dimension B is there where an argument has it.

    ::

        plan = condense(A, B, Q, R, x0, horizon=20, u_min=-1.0, u_max=1.0)
        sol = qp.solve_qp(**plan.arguments)
        inputs, states = plan.inputs(sol.x), plan.states(sol.x)
    """

    arguments: dict[str, Any]  #: of :func:`qplayer_gpu.solve_qp`: H, g, and C, l, u, lb, ub as far as there are limits
    drift: Tensor  #: [(B,) N, n_x] the states x_1 to x_N without inputs
    response: Tensor  #: [(B,) N, n_x, N n_u] what each input adds to them

    def inputs(self, x: Tensor) -> Tensor:
        """The inputs u_0 to u_(N-1) that a solution is: [(B,) N n_u] -> [(B,) N, n_u]."""
        return x.unflatten(-1, (self.response.shape[-3], -1))

    def states(self, x: Tensor) -> Tensor:
        """The states x_1 to x_N that follow from a solution: [(B,) N n_u] -> [(B,) N, n_x]."""
        return self.drift + torch.einsum("...kij,...j->...ki", self.response, x)


def condense(
    A: Tensor,  # [((B,) N,) n_x, n_x]
    B: Tensor,  # [((B,) N,) n_x, n_u]
    Q: Tensor,  # [((B,) N,) n_x, n_x]
    R: Tensor,  # [((B,) N,) n_u, n_u]
    x0: Tensor,  # [(B,) n_x]
    horizon: int,  # N
    *,
    c: Tensor | None = None,  # [((B,) N,) n_x]
    q: Tensor | None = None,  # [((B,) N,) n_x]
    r: Tensor | None = None,  # [((B,) N,) n_u]
    E: Tensor | None = None,  # [((B,) N,) n_e, n_x]
    x_min: Tensor | float | None = None,  # [((B,) N,) n_e]
    x_max: Tensor | float | None = None,  # [((B,) N,) n_e]
    u_min: Tensor | float | None = None,  # [((B,) N,) n_u]
    u_max: Tensor | float | None = None,  # [((B,) N,) n_u]
) -> Condensed:
    """The QP of a linear system over a horizon, with its states eliminated ("condensed").

    Minimises the sum over k = 0 ... N-1 of ``1/2 x'Q_k x + q_k'x`` at ``x = x_(k+1)`` and ``1/2 u_k'R_k u_k + r_k'u_k``
    over the inputs u, subject to ``x_(k+1) = A_k x_k + B_k u_k + c_k``, ``x_min_k <= E_k x_(k+1) <= x_max_k`` and
    ``u_min_k <= u_k <= u_max_k``. All but x0 may be constant, vary over the horizon, or also over the batch: a
    dimension of N (or 1) stands before their own, and one of B before that. To follow states ``t_k``, take
    ``q_k = -Q_k t_k``; a cost of the last state alone is in ``Q_(N-1)``.

    The QP has N n_u variables, bounds for the limits of the inputs, and for each step n_e rows for those of the
    states, in the order of the steps. Where the system is shared by the batch, so are its H and C. Everything is
    differentiable in every tensor. The powers of A are formed: for a system that is far from stable take a short
    horizon, or put a stabilizing feedback into A.

    Args:
        E: which combinations of the states are limited; each state, where it is not given.

    Raises:
        ProblemError: the horizon is no positive number, a tensor has neither it nor 1 as its dimension before its own,
            or E is given without limits.
    """
    if horizon < 1:
        raise ProblemError(f"horizon must be at least 1, not {horizon}")
    if E is not None and x_min is None and x_max is None:
        raise ProblemError("E is given without x_min and x_max: there is nothing that it limits")
    A, B, Q, R = (_steps(name, M, 2, horizon) for name, M in (("A", A), ("B", B), ("Q", Q), ("R", R)))
    drift, response = _predict(A, B, x0, None if c is None else _steps("c", c, 1, horizon))
    columns, weighted = response.flatten(-3, -2).mT, (Q @ response).flatten(-3, -2).mT
    H = columns @ weighted.mT + _block_diagonal(R)
    g = _product(weighted, drift.flatten(-2))
    if q is not None:
        g = g + _product(columns, _steps("q", q, 1, horizon).flatten(-2))
    if r is not None:
        g = g + _steps("r", r, 1, horizon).flatten(-2)
    arguments: dict[str, Any] = {"H": H, "g": g}
    for name, given, limit in (("lb", "u_min", u_min), ("ub", "u_max", u_max)):
        if limit is not None:
            arguments[name] = _steps(given, limit, 1, horizon).flatten(-2) if isinstance(limit, Tensor) else limit
    rows, free = response, drift
    if E is not None:
        E = _steps("E", E, 2, horizon)
        rows, free = E @ response, _product(E, drift)
    for name, given, limit in (("l", "x_min", x_min), ("u", "x_max", x_max)):
        if limit is not None:
            arguments["C"] = rows.flatten(-3, -2)
            side = _steps(given, limit, 1, horizon) if isinstance(limit, Tensor) else limit
            arguments[name] = (side - free).flatten(-2)
    return Condensed(arguments, drift, response)


def _steps(name: str, t: Tensor, dimensions: int, horizon: int) -> Tensor:
    """With a dimension for the steps before its own.

    Raises:
        ProblemError: it has a dimension there that is neither 1 nor the horizon.
    """
    t = t.unsqueeze(0) if t.dim() == dimensions else t
    at = -1 - dimensions
    if t.dim() not in (dimensions + 1, dimensions + 2) or t.shape[at] not in (1, horizon):
        raise ProblemError(
            f"{name} must have {dimensions} dimensions, or {horizon} steps or 1 before them and a batch before these, "
            f"not shape {tuple(t.shape)}"
        )
    return t.expand(*t.shape[:at], horizon, *t.shape[at + 1 :])


def _predict(A: Tensor, B: Tensor, x0: Tensor, c: Tensor | None) -> tuple[Tensor, Tensor]:
    """The states without inputs [(B,) N, n_x], and what each input adds to them [(B,) N, n_x, N n_u]."""
    horizon, n_u = B.shape[-3], B.shape[-1]
    state, response = x0, x0.new_zeros(x0.shape[-1], horizon * n_u)
    states, responses = [], []
    for k in range(horizon):
        state = _product(A[..., k, :, :], state)
        state = state if c is None else state + c[..., k, :]
        own = nn.functional.pad(B[..., k, :, :], (k * n_u, (horizon - 1 - k) * n_u))
        response = A[..., k, :, :] @ response + own
        states.append(state)
        responses.append(response)
    return torch.stack(states, -2), torch.stack(responses, -3)


def _block_diagonal(R: Tensor) -> Tensor:
    """[(B,) N, n_u, n_u] -> [(B,) N n_u, N n_u]."""
    one = torch.eye(R.shape[-3], dtype=R.dtype, device=R.device)
    return torch.einsum("kl,...kij->...kilj", one, R).flatten(-2).flatten(-3, -2)


def _product(M: Tensor, x: Tensor) -> Tensor:
    return torch.einsum("...ij,...j->...i", M, x)  # which copies nothing that is shared by the batch
