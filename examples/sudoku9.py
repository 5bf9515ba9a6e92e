"""The layer of sudoku.py at the size of 9x9 Sudoku: an LP in 729 variables under 249 equations.

First the rules of the game as A: the layer solves puzzles. Then rules with errors, each entry that is not zero off by
some percent, that are learned back from puzzles and solutions; which entries are zero is known. This is what can be
shown in minutes on a CPU: random rules, as in sudoku.py, would take thousands of such steps, and are not tried.

Writes metrics.csv and curves.png into runs/sudoku9.

    pip install -e '.[examples]'
    python examples/sudoku9.py --backend cpu
"""

from __future__ import annotations

import time

import torch
from torch import Tensor
from torch.nn.functional import one_hot
from torch.utils.data import DataLoader, TensorDataset

from harness import curves, options
from sudoku import PANELS, Rules, judge, train

CELLS = torch.arange(729).reshape(9, 9, 9)  # row, column, digit
ROW, COLUMN, DIGIT = CELLS // 81, CELLS // 9 % 9, CELLS % 9
BLOCK = ROW // 3 * 3 + COLUMN // 3


def all_rules() -> Tensor:
    """One digit in a cell, each digit once in a row, column and block: [324, 729]."""
    groups = (9 * ROW + COLUMN, 9 * ROW + DIGIT, 9 * COLUMN + DIGIT, 9 * BLOCK + DIGIT)
    return torch.cat([one_hot(group.flatten()).mT for group in groups]).double()


def independent(rules: Tensor) -> Tensor:
    """The rules that do not follow from those before: [249, 729]."""
    basis, kept = rules[:0], []
    for i, rule in enumerate(rules):
        rest = rule - basis.mT @ (basis @ rule)
        if rest.norm() > 1e-6:
            basis = torch.cat([basis, rest[None] / rest.norm()])
            kept.append(i)
    return rules[kept]


def follows(puzzles: Tensor, rules: Tensor) -> Tensor:
    """Whether the solution follows from the givens, one after the other: [B, 729] -> [B]."""
    known, possible = puzzles, torch.ones_like(puzzles)
    for _ in range(81):
        taken = known @ rules.mT @ rules  # by this or another digit of a group
        possible = possible * ((taken == 0) | (known > 0))
        known = possible * ((possible @ rules.mT == 1).double() @ rules > 0)
    return known.sum(-1) == 81


def make_puzzles(count: int, givens: int, seed: int) -> tuple[Tensor, Tensor]:
    """Puzzles whose solution follows from their givens, and these solutions: [count, 729], [count, 729]."""
    generator = torch.Generator().manual_seed(seed)
    rules = all_rules()

    def shuffled(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator).argsort(-1)

    puzzles, solutions = rules[:0], rules[:0]
    while len(puzzles) < count:
        lines = (3 * shuffled(2, 3)[..., None] + shuffled(2, 3, 3)).flatten(1)  # bands, and in each band
        pattern = (3 * (lines[0] % 3) + lines[0] // 3)[:, None] + lines[1]
        solution = one_hot(shuffled(9)[pattern % 9].flatten(), 9).flatten().double()[None]
        puzzle = solution * (shuffled(81) < givens).repeat_interleave(9)
        if follows(puzzle, rules):
            puzzles, solutions = torch.cat([puzzles, puzzle]), torch.cat([solutions, solution])
    return puzzles, solutions


def main() -> None:
    """Solves puzzles by the rules of the game, then learns from rules with errors."""
    parser = options(__doc__, "sudoku9", epochs=12)
    parser.add_argument("--train", type=int, default=4, help="puzzles to learn from")
    parser.add_argument("--test", type=int, default=4, help="puzzles to solve")
    parser.add_argument("--givens", type=int, default=36, help="of a puzzle")
    parser.add_argument("--batch", type=int, default=4, help="puzzles per step")
    parser.add_argument("--errors", type=float, default=0.05, help="of the rules to begin with: standard deviation")
    parser.add_argument("--lr", type=float, default=5e-3, help="highest learning rate of Adam")
    parser.add_argument("--penalty", type=float, default=0.1, help="weight of ||s|| in the loss")
    args = parser.parse_args()
    pairs = (t.to(args.device) for t in make_puzzles(args.train + args.test, args.givens, args.seed))
    data, held_back = zip(*(t.split([args.train, args.test]) for t in pairs), strict=True)
    rules = independent(all_rules())

    start = time.perf_counter()
    with torch.no_grad():
        sol = Rules(rules, "qplayer-learn-A", args.backend).to(args.device)(held_back[0])
    wrong, steps = judge(sol, held_back[1], args.penalty)["wrong"], sol.info.iterations.double().mean()
    print(f"by the rules: wrong {wrong:g}, {steps:.0f} Newton steps, {time.perf_counter() - start:.1f} s")

    torch.manual_seed(args.seed)
    model = Rules(rules * (1 + args.errors * torch.randn_like(rules)), "qplayer-learn-A", args.backend).to(args.device)
    model.A.register_hook(lambda gradient: gradient * (model.A != 0))
    loader = DataLoader(TensorDataset(*data), args.batch, shuffle=True)
    log = train(model, loader, held_back, args, args.out)
    curves({"": log}, PANELS, args.out / "curves.png", log_scale="loss")


if __name__ == "__main__":
    main()
