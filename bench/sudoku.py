"""4 x 4 Sudoku puzzles that have one answer."""

from __future__ import annotations

from itertools import permutations

import torch
from torch import Tensor

SIDE = 4


def grids() -> Tensor:
    """All 288 filled grids, digits from 0: [288, 16]."""
    found: list[tuple[int, ...]] = []
    lines = list(permutations(range(SIDE)))

    def extend(rows: tuple[tuple[int, ...], ...]) -> None:
        if len(rows) == SIDE:
            found.append(sum(rows, ()))
            return
        for line in lines:
            if _fits(rows, line):
                extend((*rows, line))

    extend(())
    return torch.tensor(found)


def _fits(rows: tuple[tuple[int, ...], ...], line: tuple[int, ...]) -> bool:
    """Whether the line may stand below the rows: no digit twice in a column or a 2 x 2 box."""
    if any(a == b for row in rows for a, b in zip(row, line, strict=True)):
        return False
    box = rows[-1] if len(rows) % 2 else ()
    return not box or ({*box[:2]}.isdisjoint(line[:2]) and {*box[2:]}.isdisjoint(line[2:]))


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
