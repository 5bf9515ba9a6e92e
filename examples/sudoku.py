"""Learns the rules of 4x4 Sudoku with an LP layer whose constraints contradict each other at first.

A puzzle is a vector p of 64 entries, one for each cell and digit: 1 for a given, 0 elsewhere. The layer answers with

    x = argmin -p'x   subject to   A x = 1,  x >= 0

and A, 40 x 64, is all there is to learn. The rules of the game are of this form: with them as A, x is the solution of
the puzzle. With the random A of the start no x satisfies the constraints; the layer then solves the closest feasible
LP, ``A x = 1 + s_eq, x >= s_box``, and gives the shift s. The loss is ``MSE(x, solution) + penalty * ||s||``.

Prints the measures of each epoch, and writes metrics.csv and curves.png into runs/sudoku. Takes about a minute on two
cores of a CPU, ten times as long where there is no compiler for the library's kernels:

    pip install -e '.[examples]'
    python examples/sudoku.py
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from itertools import permutations

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss, one_hot
from torch.optim.lr_scheduler import LRScheduler, OneCycleLR
from torch.utils.data import DataLoader, TensorDataset

import qplayer_gpu as qp
from harness import Measures, Record, Training, curves, options

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

    def __init__(self, backend: str) -> None:
        super().__init__()
        size = torch.rand(N_RULES, 1, dtype=torch.double) / 4
        self.A = nn.Parameter(size * torch.rand(N_RULES, 64, dtype=torch.double))
        self.layer = qp.QPLayer(qp.Settings(eps_abs=1e-6), backend)

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


def run(model: Rules, loader: DataLoader, held_back: Sequence[Tensor], args: argparse.Namespace) -> list[Record]:
    """Trains, reports each epoch, and returns the measures of each step and each test."""
    optimizer = torch.optim.Adam(model.parameters())
    schedule = OneCycleLR(optimizer, args.lr, args.epochs * len(loader), pct_start=0.2, cycle_momentum=False)
    training = Training(args, args.out, steps=len(loader), model=model, optimizer=optimizer, schedule=schedule)
    for _ in training.epochs():
        for batch in loader:
            training.step(train_step(model, batch, args.penalty, optimizer, schedule))
        training.test(test(model, *held_back, args.penalty))
    return training.log


def parse_arguments() -> argparse.Namespace:
    """The options, all with a default."""
    parser = options(__doc__, "sudoku", epochs=15)
    parser.add_argument("--train", type=int, default=9000, help="puzzles to learn from")
    parser.add_argument("--test", type=int, default=1000, help="puzzles to test on, none of them among the others")
    parser.add_argument("--batch", type=int, default=150, help="puzzles per step")
    parser.add_argument("--lr", type=float, default=1e-2, help="highest learning rate of Adam")
    parser.add_argument("--penalty", type=float, default=0.1, help="weight of ||s|| in the loss")
    return parser.parse_args()


def main() -> None:
    """Makes the puzzles, trains, and writes what there is to see."""
    args = parse_arguments()
    torch.manual_seed(args.seed)
    puzzles, solutions = (t.to(args.device) for t in make_puzzles(args.train + args.test, args.seed))
    train, held_back = zip(*(t.split([args.train, args.test]) for t in (puzzles, solutions)), strict=True)
    loader = DataLoader(TensorDataset(*train), args.batch, shuffle=True)
    log = run(Rules(args.backend).to(args.device), loader, held_back, args)
    panels = {"loss": "loss", "wrong": "puzzles with an error", "shift": "mean ||s||"}
    curves({"": log}, panels, args.out / "curves.png", log_scale="loss")


if __name__ == "__main__":
    main()
