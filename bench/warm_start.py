"""Newton steps with and without a warm start: a Sudoku LP in training, and receding-horizon control.

    python bench/warm_start.py

The training is repeated with the same seed, once cold and once with a qplayer_gpu.WarmStart keyed by sample; the
control of a batch of double integrators starts each solve from the last plan, as it was and moved on by one step.
"""

from __future__ import annotations

import argparse
import itertools

import torch
from torch import Tensor

import qplayer_gpu as qp

DOUBLE = torch.float64


def sudokus(count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Puzzles of 4 x 4 with about half of the cells given, and their solutions: [count, 64] one-hot, each."""
    base = torch.tensor([[0, 1, 2, 3], [2, 3, 0, 1], [1, 0, 3, 2], [3, 2, 1, 0]])
    pairs = [list(p) for p in ([0, 1, 2, 3], [1, 0, 2, 3], [0, 1, 3, 2], [2, 3, 0, 1], [3, 2, 1, 0])]
    digits = list(itertools.permutations(range(4)))

    def pick(choices: list) -> list:
        return choices[int(torch.randint(len(choices), (1,), generator=generator))]

    boards = torch.stack([torch.tensor(pick(digits))[base[pick(pairs)][:, pick(pairs)]] for _ in range(count)])
    solutions = torch.nn.functional.one_hot(boards, 4).to(DOUBLE)
    given = torch.rand(count, 4, 4, 1, generator=generator) < 0.5
    return (solutions * given).reshape(count, 64), solutions.reshape(count, 64)


def train(warm: bool, epochs: int, count: int, batch: int) -> list[float]:
    """Learns the equalities of the Sudoku LP; the mean Newton steps of each epoch."""
    generator = torch.Generator().manual_seed(0)
    puzzles, solutions = sudokus(count, generator)
    A = torch.rand(40, 64, generator=generator, dtype=DOUBLE).requires_grad_()
    b, lb = torch.ones(40, dtype=DOUBLE), torch.zeros(64, dtype=DOUBLE)
    layer, cache = qp.QPLayer(), qp.WarmStart(count)
    optimizer = torch.optim.Adam([A], lr=1e-3)
    history = []
    for _ in range(epochs):
        steps = []
        for index in torch.randperm(count, generator=generator).split(batch):
            start = cache[index] if warm else None
            solution = layer(None, -puzzles[index], A, b, lb=lb, warm_start=start).check()
            cache[index] = solution
            loss = (solution.x - solutions[index]).square().mean() + 1e-3 * solution.s_eq.square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            steps.append(solution.info.iterations.double().mean())
        history.append(torch.stack(steps).mean().item())
    return history


def plan(horizon: int, dt: float = 0.1) -> dict[str, Tensor]:
    """Controls u [horizon] of a double integrator: the parts of the QP that do not depend on the state."""
    step, push = torch.tensor([[1.0, dt], [0.0, 1.0]], dtype=DOUBLE), torch.tensor([0.5 * dt**2, dt], dtype=DOUBLE)
    powers = [torch.linalg.matrix_power(step, k) for k in range(horizon + 1)]
    free = torch.stack(powers[1:])  # [horizon, 2, 2], states without control
    forced = torch.zeros(horizon, 2, horizon, dtype=DOUBLE)  # states by control
    for k, j in itertools.product(range(horizon), repeat=2):
        if j <= k:
            forced[k, :, j] = powers[k - j] @ push
    H = torch.einsum("kij,kil->jl", forced, forced) + 1e-2 * torch.eye(horizon, dtype=DOUBLE)
    return {"H": H, "free": free, "forced": forced, "step": step, "push": push}


def control(mode: str, batch: int, horizon: int, times: int, distance: float) -> float:
    """Drives a batch of systems to the origin under bounds on control and speed; the mean Newton steps of a solve."""
    generator = torch.Generator().manual_seed(0)
    state = (2 * torch.rand(batch, 2, generator=generator, dtype=DOUBLE) - 1) * torch.tensor([distance, 1.0])
    p, last, steps = plan(horizon), None, []
    bound, speed = torch.ones(horizon, dtype=DOUBLE), 1.0
    for _ in range(times):
        coasting = torch.einsum("kij,bj->bki", p["free"], state)
        g = torch.einsum("kij,bki->bj", p["forced"], coasting)
        sides = (-speed - coasting[..., 1], speed - coasting[..., 1])
        last = moved_on(last) if mode == "moved" and last is not None else last
        last = qp.solve_qp(
            p["H"], g, C=p["forced"][:, 1], l=sides[0], u=sides[1], lb=-bound, ub=bound,
            warm_start=None if mode == "cold" else last,
        )  # fmt: skip
        steps.append(last.info.iterations.double().mean())
        state = state @ p["step"].T + last.x[:, :1] * p["push"]
        state = state + 0.02 * torch.randn(batch, 2, generator=generator, dtype=DOUBLE)
    return torch.stack(steps).mean().item()


def moved_on(solution: qp.Solution) -> qp.Solution:
    """The plan one step later, its last control repeated."""

    def move(t: Tensor) -> Tensor:
        return torch.cat([t[:, 1:], t[:, -1:]], 1) if t.dim() == 2 and t.shape[1] else t

    return solution.map(move)


def main() -> None:
    """Prints the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--samples", type=int, default=128)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--systems", type=int, default=64)
    parser.add_argument("--horizon", type=int, default=40)
    parser.add_argument("--times", type=int, default=30)
    a = parser.parse_args()
    print("Sudoku LP, mean Newton steps of each epoch")
    for warm in (False, True):
        history = train(warm, a.epochs, a.samples, a.batch)
        print(f"  {'warm' if warm else 'cold'}", *(f"{steps:6.1f}" for steps in history))
    print("receding horizon, mean Newton steps of a solve")
    for mode in ("cold", "last", "moved"):
        steps = (control(mode, a.systems, a.horizon, a.times, distance) for distance in (1.0, 5.0))
        print("  {:5s} near {:4.1f}, far, where the bounds hold back more {:4.1f}".format(mode, *steps))


if __name__ == "__main__":
    main()
