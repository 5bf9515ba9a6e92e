"""4 x 4 Sudoku puzzles that have one answer."""

from itertools import permutations

import torch
from torch import Tensor

SIDE = 4


def grids() -> Tensor:
    """All 288 filled grids, digits from 0: [288, 16]."""
    lines = torch.tensor(list(permutations(range(SIDE))))
    rows = lines[torch.cartesian_prod(*[torch.arange(len(lines))] * SIDE)]  # [24^4, 4, 4]
    boxes = rows.view(-1, 2, 2, 2, 2).transpose(2, 3).reshape(rows.shape)
    right = torch.stack([(x.sort(-1).values == torch.arange(SIDE)).flatten(1).all(1) for x in (rows.mT, boxes)])
    return rows[right.all(0)].flatten(1)


def puzzles(count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """The givens and the answers, one-hot: [count, 64] each, zero where a cell is empty; no given can be left out."""
    every = grids()
    givens, answers = zip(*(_puzzle(every, generator) for _ in range(count)), strict=True)
    return torch.stack(givens), torch.stack(answers)


def _puzzle(every: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    grid = every[torch.randint(len(every), (), generator=generator)]
    given = torch.ones(SIDE * SIDE, dtype=torch.bool)
    for cell in torch.randperm(SIDE * SIDE, generator=generator):
        given[cell] = False
        answers = (every[:, given] == grid[given]).all(1).sum()
        given[cell] = answers > 1
    answer = torch.nn.functional.one_hot(grid, SIDE).double()
    return (answer * given.unsqueeze(1)).flatten(), answer.flatten()
