"""Newton steps with and without a warm start: a Sudoku LP in training, receding-horizon control, and random problems.

    python -m bench.warm_start    # writes results/warm_start.csv, the rows of the tables in docs/pytorch.md

The training is repeated with the same seed, once cold and once with a qplayer_gpu.WarmStart keyed by sample; the
control of a batch of double integrators starts each solve from the last plan, as it was and moved on by one step.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import torch

import qplayer_gpu as qp

from . import families, sudoku
from .table import write

ROOT = Path(__file__).parents[1]
FILE = ROOT / "bench" / "results" / "warm_start.csv"
COLUMNS = ("case", "start", "steps")
DOUBLE = torch.float64
sys.path.insert(0, str(ROOT / "tests"))
import test_starts as starts  # noqa: E402


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


def moves() -> Iterator[tuple[str, str, float]]:
    """The kinds of tests/test_starts.py with 24 variables: cold, and from answers that are near or far."""
    for kind in starts.KINDS:
        problem, answer = starts.problem(kind, 24), starts.answer(kind, 24)
        yield kind, "cold", starts.steps(problem)
        yield kind, "from its own answer", starts.steps(problem, answer)
        yield kind, "after a change of 1e-3", starts.after_a_move(kind, 24)
        yield kind, "from another problem's answer", starts.steps(problem, answer.map(lambda t: t.roll(1, 0)))


def main() -> None:
    """Measures all and writes the rows."""
    parser = argparse.ArgumentParser(prog="python -m bench.warm_start", description=__doc__.split("\n")[0])
    sizes = {"epochs": 6, "samples": 128, "batch": 32, "systems": 64, "horizon": 40, "times": 30}
    for name, size in sizes.items():
        parser.add_argument(f"--{name}", type=int, default=size)
    a = parser.parse_args()
    rows = list(moves())
    for start in ("cold", "warm"):
        history = train(start == "warm", a.epochs, a.samples, a.batch)
        rows += [(f"epoch {epoch}", start, steps) for epoch, steps in enumerate(history, 1)]
    for start in ("cold", "last", "moved"):
        for case, distance in (("near", 1.0), ("far", 5.0)):
            rows.append((case, start, control(start, a.systems, a.horizon, a.times, distance)))
    write(FILE, COLUMNS, (dict(zip(COLUMNS, row, strict=True)) for row in rows))


if __name__ == "__main__":
    main()
