"""Learns the rules of 4x4 Sudoku with a layer of which only the constraints are learned.

A puzzle is a vector p of 64 entries, one for each cell and digit: 1 for a given, 0 elsewhere. The layer answers with

    x = argmin 1/2 x'H x - p'x   subject to   A x = b,  x >= 0

The rules of the game are of this form: with them as A, 40 x 64, b = 1 and H = 0, x is the solution of the puzzle. The
layers (--layer) are the four of Bambade, Schramm, Taylor, Carpentier (ICLR 2024):

    optnet           H = I / 10, b = A x0 with x0 > 0: always feasible; learns A and x0 (Amos, Kolter, ICML 2017)
    optnet-learn-A   H = I / 10, b = 1: infeasible at first; learns A
    qplayer          H = 0,      b = A x0
    qplayer-learn-A  H = 0,      b = 1

Where no x satisfies the constraints, the layer solves the closest feasible problem, ``A x = b + s_eq, x >= s_box``, and
gives the shift s. The loss is ``MSE(x, solution) + penalty * ||s||``.

Prints the measures of each epoch, and writes curves.png into runs/sudoku and metrics.csv into a folder there for each
layer. Takes less than a minute on a CPU, ten times as long without a compiler for the library's kernels:

    pip install -e '.[examples]'
    python examples/sudoku.py
    python examples/sudoku.py --layer optnet optnet-learn-A qplayer qplayer-learn-A
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from itertools import permutations
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss, one_hot
from torch.optim.lr_scheduler import LRScheduler, OneCycleLR
from torch.utils.data import DataLoader, TensorDataset

import qplayer_gpu as qp
from harness import Record, Training, curves, options

LAYERS = {  # H = this times the identity; whether b = A x0, so that there always is a feasible x
    "optnet": (0.1, True),
    "optnet-learn-A": (0.1, False),
    "qplayer": (None, True),
    "qplayer-learn-A": (None, False),
}
N_RULES = 40  # the rank of the rules of the game: one digit in a cell, each digit once in a row, column and block
FEWEST_GIVENS, MOST_GIVENS = 4, 8
PANELS = {"loss": "loss", "wrong": "puzzles with an error", "shift": "mean ||s||"}
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


def random_rules() -> Tensor:
    """Rules to begin with: [40, 64]. Each is of another size, so that with b = 1 they contradict each other."""
    size = torch.rand(N_RULES, 1, dtype=torch.double) / 4
    return size * torch.rand(N_RULES, 64, dtype=torch.double)


class Rules(nn.Module):
    """The layer, that learns from the rules A: [m, n]."""

    def __init__(self, A: Tensor, layer: str, backend: str) -> None:
        super().__init__()
        H, feasible = LAYERS[layer]
        self.register_buffer("H", H and H * torch.eye(A.shape[1]).to(A))
        self.A = nn.Parameter(A)
        self.log_x0 = nn.Parameter(torch.zeros_like(A[0])) if feasible else None
        self.layer = qp.QPLayer(qp.Settings(eps_abs=1e-6), backend)

    def forward(self, puzzles: Tensor) -> qp.Solution:
        """[B, n] -> the answers of the layer."""
        b = torch.ones_like(self.A[:, 0]) if self.log_x0 is None else self.A @ self.log_x0.exp()
        return self.layer(self.H, -puzzles, self.A, b, lb=torch.zeros_like(puzzles[0]))


def judge(sol: qp.Solution, solutions: Tensor, penalty: float) -> dict[str, Tensor]:
    """The loss, and what else there is to know of a batch: a mean over its puzzles each."""
    shift = torch.cat([sol.s_eq, sol.s_box], -1).norm(dim=-1).mean()
    digits, expected = (t.unflatten(-1, (16, 4)).argmax(-1) for t in (sol.x, solutions))
    solved, infeasible = sol.status == qp.Status.SOLVED, sol.status == qp.Status.SOLVED_CLOSEST_FEASIBLE
    return {
        "loss": mse_loss(sol.x, solutions) + penalty * shift,
        "wrong": (digits != expected).any(-1).double().mean(),
        "shift": shift.detach(),
        "infeasible": infeasible.double().mean(),
        "failed": (~(solved | infeasible)).double().mean(),
    }


def train_step(
    model: nn.Module, batch: Sequence[Tensor], penalty: float, optimizer: torch.optim.Optimizer, schedule: LRScheduler
) -> dict[str, Tensor]:
    """One step of the optimizer; its measures, and the norm of the gradient."""
    puzzles, solutions = batch
    measures = judge(model(puzzles), solutions, penalty)
    optimizer.zero_grad()
    measures["loss"].backward()
    gradient = nn.utils.clip_grad_norm_(model.parameters(), GRADIENT_NORM)
    optimizer.step()
    schedule.step()
    return {**measures, "gradient": gradient}


def train(
    model: nn.Module, loader: DataLoader, held_back: Sequence[Tensor], args: argparse.Namespace, folder: Path
) -> list[Record]:
    """Trains; after each epoch solves all test puzzles as one batch."""
    optimizer = torch.optim.Adam(model.parameters())
    schedule = OneCycleLR(optimizer, args.lr, args.epochs * len(loader), pct_start=0.2, cycle_momentum=False)
    training = Training(args, folder, steps=len(loader), model=model, optimizer=optimizer, schedule=schedule)
    puzzles, solutions = held_back
    for _ in training.epochs():
        for batch in loader:
            training.step(train_step(model, batch, args.penalty, optimizer, schedule))
        with torch.no_grad():
            training.test(judge(model(puzzles), solutions, args.penalty))
    return training.log


def parse_arguments(name: str) -> argparse.Namespace:
    """The options, all with a default."""
    parser = options(__doc__, name, epochs=15)
    parser.add_argument("--layer", nargs="+", choices=LAYERS, default=["qplayer-learn-A"], metavar="LAYER")
    parser.add_argument("--train", type=int, default=9000, help="puzzles to learn from")
    parser.add_argument("--test", type=int, default=1000, help="puzzles to test on, none of them among the others")
    parser.add_argument("--batch", type=int, default=150, help="puzzles per step")
    parser.add_argument("--lr", type=float, default=1e-2, help="highest learning rate of Adam")
    parser.add_argument("--penalty", type=float, default=0.1, help="weight of ||s|| in the loss")
    return parser.parse_args()


def split(args: argparse.Namespace) -> tuple[DataLoader, Sequence[Tensor]]:
    """The puzzles to learn from, in batches, and those to test on."""
    puzzles, solutions = (t.to(args.device) for t in make_puzzles(args.train + args.test, args.seed))
    train, held_back = zip(*(t.split([args.train, args.test]) for t in (puzzles, solutions)), strict=True)
    return DataLoader(TensorDataset(*train), args.batch, shuffle=True), held_back


def main() -> None:
    """Trains each layer that is asked for, and draws their curves."""
    args = parse_arguments("sudoku")
    logs = {}
    loader, held_back = split(args)
    for layer in args.layer:
        torch.manual_seed(args.seed)
        model = Rules(random_rules(), layer, args.backend).to(args.device)
        logs[layer] = train(model, loader, held_back, args, args.out / layer)
    curves(logs, PANELS, args.out / "curves.png", log_scale="loss")


if __name__ == "__main__":
    main()
