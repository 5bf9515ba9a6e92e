"""Learns the rules of 4x4 Sudoku with an LP layer whose constraints contradict each other at first.

A puzzle is a vector p of 64 entries, one for each cell and digit: 1 for a given, 0 elsewhere. The layer answers with

    x = argmin -p'x   subject to   A x = 1,  x >= 0

and A, 40 x 64, is all there is to learn. The rules of the game are of this form: with them as A, x is the solution of
the puzzle. With the random A of the start no x satisfies the constraints; the layer then solves the closest feasible
LP, ``A x = 1 + s_eq, x >= s_box``, and gives the shift s. The loss is ``MSE(x, solution) + penalty * ||s||``.

Prints the measures of each epoch, and writes metrics.csv and curves.png. Takes about a minute on two cores of a CPU,
ten times as long where there is no compiler for the library's kernels:

    pip install -e '.[examples]'
    python examples/sudoku.py
"""

from __future__ import annotations

import argparse
import csv
import time
from collections.abc import Sequence
from itertools import permutations
from pathlib import Path
from statistics import fmean

import torch
from matplotlib import pyplot as plt
from matplotlib.ticker import PercentFormatter
from torch import Tensor, nn
from torch.nn.functional import mse_loss, one_hot
from torch.optim.lr_scheduler import LRScheduler, OneCycleLR
from torch.utils.data import DataLoader, TensorDataset
from tqdm import tqdm

import qplayer_gpu as qp

Measures = dict[str, float]  # of a batch
Record = dict[str, str | float]  # measures, and what they are of: a line of metrics.csv

N_RULES = 40  # the rank of the rules of the game: one digit in a cell, each digit once in a row, column and block
FEWEST_GIVENS, MOST_GIVENS = 4, 8
GRADIENT_NORM = 0.1  # clipped there: close to a degenerate LP, the gradient can have any size


def solved_grids() -> Tensor:
    """All 288 solved grids, one-hot: [288, 64]."""
    rows = torch.tensor(list(permutations(range(4))))
    grids = rows[torch.cartesian_prod(*[torch.arange(len(rows))] * 4)]
    blocks = grids.reshape(-1, 2, 2, 2, 2).transpose(2, 3).reshape(-1, 4, 4)
    groups = torch.cat([grids.mT, blocks], 1)
    valid = (groups.sort(-1).values == torch.arange(4)).flatten(1).all(-1)
    return one_hot(grids[valid].flatten(1), 4).flatten(1).double()


def make_puzzles(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Different puzzles with one solution each, and these solutions: [count, 64], [count, 64]."""
    generator = torch.Generator().manual_seed(seed)
    grids = solved_grids()
    puzzles = grids[:0]
    while len(puzzles) < count:
        solved = grids[torch.randint(len(grids), (4096,), generator=generator)]
        n_givens = torch.randint(FEWEST_GIVENS, MOST_GIVENS + 1, (4096, 1), generator=generator)
        given = torch.rand(4096, 16, generator=generator).argsort(-1).argsort(-1) < n_givens
        drawn = solved * given.repeat_interleave(4, -1)
        n_solutions = (drawn @ grids.T == n_givens).sum(-1)
        puzzles = torch.cat([puzzles, drawn[n_solutions == 1]]).unique(dim=0)
    puzzles = puzzles[torch.randperm(len(puzzles), generator=generator)[:count]]
    return puzzles, grids[(puzzles @ grids.T).argmax(-1)]


class Rules(nn.Module):
    """The LP layer; its rules start at random, each of another size: they contradict each other."""

    def __init__(self) -> None:
        super().__init__()
        size = torch.rand(N_RULES, 1, dtype=torch.double) / 4
        self.A = nn.Parameter(size * torch.rand(N_RULES, 64, dtype=torch.double))
        self.layer = qp.QPLayer(qp.Settings(eps_abs=1e-6))

    def forward(self, puzzles: Tensor) -> qp.Solution:
        """[B, 64] -> the answers of the layer."""
        return self.layer(None, -puzzles, self.A, b=puzzles.new_ones(N_RULES), lb=puzzles.new_zeros(puzzles.shape[-1]))


def judge(sol: qp.Solution, solutions: Tensor, penalty: float) -> dict[str, Tensor]:
    """The loss, and what else there is to know of a batch: a mean over its puzzles each."""
    shift = torch.cat([sol.s_eq, sol.s_box], -1).norm(dim=-1).mean()
    digits, expected = (t.unflatten(-1, (16, 4)).argmax(-1) for t in (sol.x, solutions))
    shares = {status.name: (sol.status == status).double().mean() for status in qp.Status}
    return {
        "loss": mse_loss(sol.x, solutions) + penalty * shift,
        "wrong": (digits != expected).any(-1).double().mean(),
        "shift": shift.detach(),
        **shares,
    }


def train_step(
    model: Rules, batch: Sequence[Tensor], penalty: float, optimizer: torch.optim.Optimizer, schedule: LRScheduler
) -> Measures:
    """One step of the optimizer."""
    puzzles, solutions = batch
    measures = judge(model(puzzles), solutions, penalty)
    optimizer.zero_grad()
    measures["loss"].backward()
    nn.utils.clip_grad_norm_(model.parameters(), GRADIENT_NORM)
    optimizer.step()
    schedule.step()
    return {name: value.item() for name, value in measures.items()}


@torch.no_grad()
def test(model: Rules, puzzles: Tensor, solutions: Tensor, penalty: float) -> Measures:
    """The measures of all test puzzles, solved as one batch."""
    return {name: value.item() for name, value in judge(model(puzzles), solutions, penalty).items()}


def mean(rows: list[Measures]) -> Measures:
    """The mean of each measure over the steps of an epoch."""
    return {name: fmean(row[name] for row in rows) for name in rows[0]}


def describe(measures: Measures) -> str:
    """One line of the report."""
    statuses = ", ".join(f"{status.name} {measures[status.name]:.1%}" for status in qp.Status if measures[status.name])
    loss, wrong, shift = (measures[name] for name in ("loss", "wrong", "shift"))
    return f"loss {loss:.5f}  wrong {wrong:6.1%}  ||s|| {shift:.2e}  {statuses}"


def write_metrics(log: list[Record], path: Path) -> None:
    """One line for each step of training and each test."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, log[0].keys())
        writer.writeheader()
        writer.writerows({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()} for row in log)


def plot(log: list[Record], path: Path) -> None:
    """Loss, share of wrong puzzles and shift over the steps."""
    panels = {"loss": "loss", "wrong": "puzzles with an error", "shift": "mean ||s||"}
    styles = {"train": {"lw": 1.2}, "test": {"lw": 0, "marker": "o", "ms": 5}}
    figure, axes = plt.subplots(len(panels), sharex=True, figsize=(7, 7), layout="constrained")
    for axis, (name, label) in zip(axes, panels.items(), strict=True):
        for split, style in styles.items():
            rows = [row for row in log if row["split"] == split]
            axis.plot([row["step"] for row in rows], [row[name] for row in rows], label=split, **style)
        axis.set_ylabel(label)
        axis.grid(alpha=0.3)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_yscale("log")
    axes[0].legend(frameon=False)
    axes[1].yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes[-1].set_xlabel("step")
    figure.savefig(path, dpi=150)
    plt.close(figure)


def parse_arguments() -> argparse.Namespace:
    """The options, all with a default."""
    parser = argparse.ArgumentParser(
        description="Learn the rules of 4x4 Sudoku.", formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--train", type=int, default=9000, help="puzzles to learn from")
    parser.add_argument("--test", type=int, default=1000, help="puzzles to test on, none of them among the others")
    parser.add_argument("--batch", type=int, default=150, help="puzzles per step")
    parser.add_argument("--lr", type=float, default=1e-2, help="highest learning rate of Adam")
    parser.add_argument("--penalty", type=float, default=0.1, help="weight of ||s|| in the loss")
    parser.add_argument("--seed", type=int, default=0, help="of the puzzles, of A and of the batches")
    parser.add_argument("--out", type=Path, default=Path("sudoku"), help="folder of metrics.csv and curves.png")
    parser.add_argument("--device", default="cpu")
    return parser.parse_args()


def run(model: Rules, loader: DataLoader, held_back: Sequence[Tensor], args: argparse.Namespace) -> list[Record]:
    """Trains, reports each epoch, and returns the measures of each step and each test."""
    optimizer = torch.optim.Adam(model.parameters())
    schedule = OneCycleLR(optimizer, args.lr, args.epochs * len(loader), pct_start=0.2, cycle_momentum=False)
    log, start = [], time.perf_counter()

    def record(split: str, measures: Measures) -> None:
        log.append({"split": split, "step": bar.n, "seconds": time.perf_counter() - start, **measures})

    with tqdm(total=schedule.total_steps, unit="step") as bar:
        for epoch in range(1, args.epochs + 1):
            steps = []
            for batch in loader:
                steps.append(train_step(model, batch, args.penalty, optimizer, schedule))
                bar.set_postfix(loss=f"{steps[-1]['loss']:.4f}", wrong=f"{steps[-1]['wrong']:.1%}", refresh=False)
                bar.update()
                record("train", steps[-1])
            tested = test(model, *held_back, args.penalty)
            record("test", tested)
            bar.write(f"epoch {epoch:2}  train  {describe(mean(steps))}\n{'':8}  test   {describe(tested)}")
    return log


def main() -> None:
    """Makes the puzzles, trains, and writes what there is to see."""
    args = parse_arguments()
    args.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(args.seed)
    puzzles, solutions = (t.to(args.device) for t in make_puzzles(args.train + args.test, args.seed))
    train, held_back = zip(*(t.split([args.train, args.test]) for t in (puzzles, solutions)), strict=True)
    loader = DataLoader(TensorDataset(*train), args.batch, shuffle=True)
    log = run(Rules().to(args.device), loader, held_back, args)
    write_metrics(log, args.out / "metrics.csv")
    plot(log, args.out / "curves.png")


if __name__ == "__main__":
    main()
