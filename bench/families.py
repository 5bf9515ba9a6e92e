"""Seeded families of QPs, in float64."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import combinations_with_replacement

import torch
from torch import Tensor
from torch.nn.functional import normalize

from .problems import QP
from .sudoku import puzzles

Family = Callable[[int, int], QP]  # of (batch, n)


def feasible(batch: int, n: int, n_eq: int, n_in: int, sides: str = "mixed", shared: bool = False) -> QP:
    """Dense QPs with a known feasible point; where the sides are "mixed", every other row has no lower one.

    Where H, A and C are shared by the batch, g, b, l and u are not.
    """
    normal, uniform = _samplers(n)
    count = () if shared else (batch,)
    M, A, C, x = normal(*count, n, n), normal(*count, n_eq, n), normal(*count, n_in, n), normal(batch, n, 1)
    Ax, Cx = (A @ x).squeeze(-1), (C @ x).squeeze(-1)
    l, u = Cx - uniform(batch, n_in), Cx + uniform(batch, n_in)
    if sides == "mixed":
        l[:, ::2] = -torch.inf
    H = M @ M.mT / n + 1e-2 * torch.eye(n, dtype=torch.float64)
    equalities = {"A": A, "b": Ax} if n_eq else {}
    return QP(g=normal(batch, n), H=H, **equalities, C=C, l=None if sides == "one_sided" else l, u=u)


def dense(equalities: float, inequalities: float, sides: str = "mixed", shared: bool = False) -> Family:
    """The family of feasible QPs with so many rows for each variable."""
    return lambda batch, n: feasible(batch, n, int(equalities * n), int(inequalities * n), sides, shared)


mixed = dense(1 / 4, 1)
layer = dense(1 / 4, 1, "two_sided")
shared = dense(1 / 4, 1, shared=True)
one_sided = dense(0, 2, "one_sided")
two_sided = dense(0, 1, "two_sided")
equalities = dense(1 / 2, 1 / 4, "one_sided")


def box(batch: int, n: int) -> QP:
    """Bounds on x and one equality."""
    qp = feasible(batch, n, 1, 1)
    ones, (_, uniform) = torch.ones(n, dtype=torch.float64), _samplers(n)
    inside = uniform(batch, n, 1) - 0.5
    return QP(g=3 * qp.g, H=qp.H, A=qp.A, b=(qp.A @ inside).squeeze(-1), lb=-ones, ub=ones)


def lp(batch: int, n: int) -> QP:
    """Linear programs over a box cut by n / 2 inequalities."""
    normal, uniform = _samplers(n)
    C, ones = normal(batch, n // 2, n), torch.ones(n, dtype=torch.float64)
    return QP(g=normal(batch, n), C=C, u=C.norm(dim=-1) * uniform(batch, n // 2), lb=-ones, ub=ones)


def projection(batch: int, n: int) -> QP:
    """The nearest point of one polytope, ``C x <= 1``, to each of a batch of points."""
    normal, _ = _samplers(n)
    C = normalize(normal(3 * n, n), dim=-1)
    H, u = torch.eye(n, dtype=torch.float64), torch.ones(3 * n, dtype=torch.float64)
    return QP(g=-2 * normal(batch, n), H=H, C=C, u=u)


def control(batch: int, n: int) -> QP:
    """Double integrators driven to the origin under bounds on control and speed, n steps ahead, condensed."""
    _, uniform = _samplers(n)
    return steered(plan(n), 0.9 * (2 * uniform(batch, 2) - 1))


def plan(horizon: int, dt: float = 0.1) -> dict[str, Tensor]:
    """The parts of the QP of controls [horizon] of a double integrator that do not depend on its state."""
    step = torch.tensor([[1.0, dt], [0.0, 1.0]], dtype=torch.float64)
    push = torch.tensor([0.5 * dt**2, dt], dtype=torch.float64)
    powers = [torch.linalg.matrix_power(step, k) for k in range(horizon + 1)]
    free = torch.stack(powers[1:])  # [horizon, 2, 2], states without control
    forced = torch.zeros(horizon, 2, horizon, dtype=torch.float64)  # states by control
    for j, k in combinations_with_replacement(range(horizon), 2):
        forced[k, :, j] = powers[k - j] @ push
    H = torch.einsum("kij,kil->jl", forced, forced) + 1e-2 * torch.eye(horizon, dtype=torch.float64)
    return {"H": H, "free": free, "forced": forced, "step": step, "push": push}


def steered(plan: dict[str, Tensor], state: Tensor, speed: float = 1.0) -> QP:
    """The QPs of a plan from states [B, 2]: position and speed."""
    coasting = torch.einsum("kij,bj->bki", plan["free"], state)
    g = torch.einsum("kij,bki->bj", plan["forced"], coasting)
    ones = torch.ones(g.shape[1], dtype=torch.float64)
    l, u = -speed - coasting[..., 1], speed - coasting[..., 1]
    return QP(g=g, H=plan["H"], C=plan["forced"][:, 1], l=l, u=u, lb=-ones, ub=ones)


def contradictory(batch: int, n: int, every: int = 1) -> QP:
    """As mixed, but two half-spaces of every so many problems exclude each other."""
    qp = mixed(batch, n)
    C, u = qp.C.clone(), qp.u.clone()  # rows 0 and 2 have no lower side
    C[::every, 2], u[::every, 2] = -C[::every, 0], -u[::every, 0] - 1
    return replace(qp, C=C, u=u)


half_infeasible = partial(contradictory, every=2)


def sudoku_lp(batch: int, n: int) -> QP:
    """The LP layer that is to learn the rules of Sudoku (OptNet, QPLayer), before training: no x satisfies its rows.

    The reward is on the givens of each puzzle; 40 equalities ``A x = 1`` with a random A >= 0 stand for the rules.
    """
    generator = torch.Generator().manual_seed(n)
    A = torch.rand(40, n, generator=generator, dtype=torch.float64)
    return QP(g=-puzzles(batch, generator)[0], A=A, b=A.new_ones(40), lb=A.new_zeros(n))


def _samplers(n: int) -> tuple[Callable[..., Tensor], Callable[..., Tensor]]:
    """Of normal and of uniform numbers."""
    known = {"generator": torch.Generator().manual_seed(n), "dtype": torch.float64}
    return partial(torch.randn, **known), partial(torch.rand, **known)
