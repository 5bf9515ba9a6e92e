"""What is measured: a family of QPs, a size, and whether the backward counts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .problems import QP, random_feasible, sudoku_lp


@dataclass(frozen=True)
class Case:
    """One line of work for every solver."""

    family: Callable[[int, int], QP]  # of (batch, n)
    n: int
    batch: int
    feasible: bool = True
    gradients: tuple[str, ...] = ()  # of these arrays; empty: forward only

    @property
    def phase(self) -> str:
        return "forward+backward" if self.gradients else "forward"

    def problems(self, divisor: int = 1) -> QP:
        """The QPs, or the first part of them."""
        return self.family(max(1, self.batch // divisor), self.n)


CASES = {
    "sudoku_lp": Case(sudoku_lp, n=64, batch=150, feasible=False, gradients=("A", "b")),
    "random_n10": Case(random_feasible, n=10, batch=2048),
    "random_n32": Case(random_feasible, n=32, batch=1024),
    "random_n64": Case(random_feasible, n=64, batch=256),
}
