"""Newton steps with and without a warm start: a Sudoku LP in training, and receding-horizon control.

    python -m bench.warm_start

The training is repeated with the same seed, once cold and once with a qplayer_gpu.WarmStart keyed by sample; the
control of a batch of double integrators starts each solve from the last plan, as it was and moved on by one step.
"""

import argparse

import torch

import qplayer_gpu as qp

from . import families, sudoku

DOUBLE = torch.float64


def train(warm: bool, epochs: int, count: int, batch: int) -> list[float]:
    """Learns the equalities of the Sudoku LP; the mean Newton steps of each epoch."""
    generator = torch.Generator().manual_seed(0)
    puzzles, solutions = sudoku.puzzles(count, generator)
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


def control(mode: str, batch: int, horizon: int, times: int, distance: float) -> float:
    """Drives a batch of systems to the origin under bounds on control and speed; the mean Newton steps of a solve."""
    generator = torch.Generator().manual_seed(0)
    state = (2 * torch.rand(batch, 2, generator=generator, dtype=DOUBLE) - 1) * torch.tensor([distance, 1.0])
    plan, last, steps = families.plan(horizon), None, []
    for _ in range(times):
        last = moved_on(last) if mode == "moved" and last is not None else last
        start = None if mode == "cold" else last
        last = qp.solve_qp(**families.steered(plan, state).arrays(), warm_start=start)
        steps.append(last.info.iterations.double().mean())
        state = state @ plan["step"].T + last.x[:, :1] * plan["push"]
        state = state + 0.02 * torch.randn(batch, 2, generator=generator, dtype=DOUBLE)
    return torch.stack(steps).mean().item()


def moved_on(solution: qp.Solution) -> qp.Solution:
    """The plan one step later, its last control repeated."""
    return solution.map(lambda t: torch.cat([t[:, 1:], t[:, -1:]], 1) if t.dim() == 2 and t.shape[1] else t)


def main() -> None:
    """Prints the figures."""
    parser = argparse.ArgumentParser(prog="python -m bench.warm_start", description=__doc__.split("\n")[0])
    sizes = {"epochs": 6, "samples": 128, "batch": 32, "systems": 64, "horizon": 40, "times": 30}
    for name, size in sizes.items():
        parser.add_argument(f"--{name}", type=int, default=size)
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
