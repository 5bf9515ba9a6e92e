"""The time-varying controller of mpc.pytorch's examples (0.0.6), with limits of the controls and without them.

    minimise   sum_t 1/2 tau_t' C_t tau_t + c_t' tau_t   over tau_t = [x_t, u_t],   x_(t+1) = F_t tau_t

``plan`` takes the tensors that ``mpc.MPC(...)(x_init, QuadCost(C, c), LinDx(F))`` takes, and is what changes: a QP in
the states and controls of all steps. Its answers are checked by the rollout alone: its cost, a function of the
controls, must have no slope that the limits do not stop.

    cd examples && python -m ported.linear_quadratic
"""

from __future__ import annotations

import torch
from torch import Tensor

import qplayer_gpu as qp


def plan(C: Tensor, c: Tensor, F: Tensor, x_init: Tensor, limit: Tensor) -> tuple[Tensor, Tensor]:
    """States [T, B, n] and controls [T, B, m]; the controls are within +-limit [T, B, m], which may be infinite."""
    T, B, size = c.shape
    n, t = x_init.shape[-1], torch.arange(T)
    H, A = C.new_zeros(B, T, size, T, size), C.new_zeros(B, T, n, T, size)
    H[:, t, :, t] = C
    A[:, t, :, t, :n] = torch.eye(n, dtype=C.dtype)
    A[:, t[1:], :, t[:-1]] = -F[: T - 1]
    b = torch.cat([x_init, x_init.new_zeros(B, (T - 1) * n)], 1)
    ub = torch.cat([torch.full_like(c[..., :n], torch.inf), limit], -1).transpose(0, 1).flatten(1)
    g = c.transpose(0, 1).flatten(1)
    sol = qp.solve_qp(H.flatten(3).flatten(1, 2), g, A.flatten(3).flatten(1, 2), b, lb=-ub, ub=ub)
    tau = sol.x.view(B, T, size).transpose(0, 1)
    return tau[..., :n], tau[..., n:]


def rollout(C: Tensor, c: Tensor, F: Tensor, x: Tensor, u: Tensor) -> Tensor:
    """The cost of controls [T, B, m] from states [B, n]: [B]."""
    total = torch.zeros(len(x), dtype=x.dtype)
    for C_t, c_t, F_t, u_t in zip(C, c, F, u, strict=True):
        tau = torch.cat([x, u_t], -1)
        total = total + (tau * (0.5 * (C_t @ tau.unsqueeze(-1)).squeeze(-1) + c_t)).sum(-1)
        x = (F_t @ tau.unsqueeze(-1)).squeeze(-1)
    return total


def problem(B: int, n: int = 3, m: int = 4, T: int = 5) -> tuple[Tensor, ...]:
    """C [T, B, n + m, n + m], c [T, B, n + m], F [T, B, n, n + m], x_init [B, n] and limits [T, B, m]."""
    torch.manual_seed(0)
    rand = torch.randn(T, B, n + m, n + m, dtype=torch.double)
    C, c = rand @ rand.mT, torch.randn(T, B, n + m, dtype=torch.double)
    R = torch.eye(n).double() + 0.2 * torch.randn(n, n, dtype=torch.double)
    F = torch.cat([R.expand(T, B, n, n), torch.randn(T, B, n, m, dtype=torch.double)], -1)
    return C, c, F, torch.randn(B, n, dtype=torch.double), torch.rand(T, B, m, dtype=torch.double)


def train(limited: bool = False, batch: int = 32, steps: int = 20) -> tuple[list[float], tuple[Tensor, ...]]:
    """Learns the costs c from those of an expert's controls: the losses, and the last problem with its controls."""
    C, c, F, x_init, limit = problem(batch)
    limit = limit if limited else torch.full_like(limit, torch.inf)
    with torch.no_grad():
        _, wanted = plan(C, c, F, x_init, limit)
    learned = torch.zeros_like(c[:, :1], requires_grad=True)
    optimizer = torch.optim.Adam([learned], lr=0.1)
    losses = []
    for _ in range(steps):
        _, u = plan(C, learned.expand_as(c), F, x_init, limit)
        loss = (u - wanted).square().mean()
        optimizer.zero_grad()
        loss.backward()
        losses.append(loss.item())
        last = learned.detach().expand_as(c).clone(), u.detach()
        optimizer.step()
    return losses, (C, F, x_init, limit, *last)


def error(C: Tensor, F: Tensor, x_init: Tensor, limit: Tensor, c: Tensor, u: Tensor) -> float:
    """By how much a step down the slope of the rollout's cost, cut off at the limits, moves the controls."""
    u = u.clone().requires_grad_()
    rollout(C, c, F, x_init, u).sum().backward()
    return ((u - u.grad).clamp(-limit, limit) - u).abs().max().item()


if __name__ == "__main__":
    for limited in (False, True):
        losses, last = train(limited)
        print(
            f"{limited=}: loss {losses[0]:.4f} -> {losses[-1]:.4f}, {error(*last):.1e} from where the cost has no slope"
        )
