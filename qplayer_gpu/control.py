"""Receding-horizon control as a small dense QP: the states are eliminated, and the inputs are what is left."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from .errors import ProblemError, ProblemTypeError

OWN = {  # the dimensions of each argument at one step
    "A": ("n_x", "n_x"),
    "B": ("n_x", "n_u"),
    "Q": ("n_x", "n_x"),
    "R": ("n_u", "n_u"),
    "c": ("n_x",),
    "q": ("n_x",),
    "r": ("n_u",),
    "E": ("n_e", "n_x"),
    "x_min": ("n_e",),
    "x_max": ("n_e",),
    "u_min": ("n_u",),
    "u_max": ("n_u",),
}
REQUIRED = ("A", "B", "Q", "R")


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
        ProblemError: the horizon is no positive integer, the shape, dtype or device of a tensor does not fit, or E is
            given without limits.
    """
    if not isinstance(horizon, Integral) or horizon < 1:
        raise ProblemError(f"horizon must be an integer of at least 1, not {horizon!r}")
    if E is not None and x_min is None and x_max is None:
        raise ProblemError("E is given without x_min and x_max: there is nothing that it limits")
    given = (A, B, Q, R, c, q, r, E, x_min, x_max, u_min, u_max)
    A, B, Q, R, c, q, r, E, x_min, x_max, u_min, u_max = _over_steps(dict(zip(OWN, given, strict=True)), x0, horizon)
    drift, response = _predict(A, B, x0, c)
    columns, weighted = response.flatten(-3, -2).mT, (Q @ response).flatten(-3, -2).mT
    H = columns @ weighted.mT + _block_diagonal(R)
    g = _product(weighted, drift.flatten(-2))
    if q is not None:
        g = g + _product(columns, q.flatten(-2))
    if r is not None:
        g = g + r.flatten(-2)
    arguments: dict[str, Any] = {"H": H, "g": g}
    for name, bound in (("lb", u_min), ("ub", u_max)):
        if bound is not None:
            arguments[name] = bound.flatten(-2) if isinstance(bound, Tensor) else bound
    rows, free = (response, drift) if E is None else (E @ response, _product(E, drift))
    for name, side in (("l", x_min), ("u", x_max)):
        if side is not None:
            arguments["C"] = rows.flatten(-3, -2)
            arguments[name] = (side - free).flatten(-2)
    return Condensed(arguments, drift, response)


def _over_steps(given: dict[str, Any], x0: Tensor, horizon: int) -> list[Any]:
    """The arguments, each tensor with a dimension for the steps before its own.

    Raises:
        ProblemError: the shape, dtype or device of a tensor does not fit.
    """
    if not isinstance(x0, Tensor):
        raise ProblemTypeError(f"x0 must be a torch.Tensor, not {type(x0).__name__}")
    if x0.dim() not in (1, 2):
        raise ProblemError(f"x0 must have shape (n_x,) or (B, n_x), not {tuple(x0.shape)}")
    sizes = {"n_x": x0.shape[-1], "N": horizon}  # what the others are, the first argument says that has them
    if x0.shape[:-1].numel() != 1:
        sizes["B"] = x0.shape[0]
    if given["E"] is None:
        sizes["n_e"] = sizes["n_x"]
    found = []
    for name, value in given.items():
        is_absent, is_number = value is None, isinstance(value, Real) and name.endswith(("_min", "_max"))
        as_given = is_number or (is_absent and name not in REQUIRED)
        found.append(value if as_given else _with_steps(name, value, x0, sizes))
    return found


def _with_steps(name: str, t: Any, x0: Tensor, sizes: dict[str, int]) -> Tensor:
    if not isinstance(t, Tensor):
        raise ProblemTypeError(f"{name} must be a torch.Tensor, not {type(t).__name__}")
    if (t.dtype, t.device) != (x0.dtype, x0.device):
        wanted, found = (f"{of.dtype} on {of.device}" for of in (x0, t))
        raise ProblemTypeError(f"{name} must be {wanted}, like x0, not {found}: convert it with .to()")
    own = OWN[name]
    shapes = [own, ("N", *own), ("B", "N", *own)]
    called = next((shape for shape in shapes if len(shape) == t.dim()), ())
    counted = [(k, size) for k, size in zip(called, t.shape, strict=False) if size != 1 or k not in ("B", "N")]
    if not called or any(size != sizes.setdefault(k, size) for k, size in counted):
        wanted = " or ".join(f"({', '.join(shape)})" for shape in shapes)
        known = ", ".join(f"{k} = {size}" for k, size in sizes.items() if k in shapes[-1])
        raise ProblemError(f"{name} must have shape {wanted}, not {tuple(t.shape)}; {known}")
    t = t.unsqueeze(0) if called == own else t
    at = -1 - len(own)
    return t.expand(*t.shape[:at], sizes["N"], *t.shape[at + 1 :])


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
