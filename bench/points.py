"""The rows of one machine, by phase, case and solver."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from .cases import CASES
from .rows import Row
from .solvers import OURS
from .table import parsed


class Sweep(NamedTuple):
    """Cases that differ in a size: how their names begin, the size, and the time that grows with it."""

    start: str
    size: Callable[[Row], int]
    cost: Callable[[Row], float]


BY_N = Sweep("mixed_n", lambda row: row.n, lambda row: row.ms)
BY_BATCH = Sweep("batch_", lambda row: row.batch, lambda row: row.ms * row.batch)


@dataclass(frozen=True)
class Results:
    """The rows of one machine."""

    rows: list[Row]

    def of(self, phase: str, start: str = "", solver: str = "") -> list[Row]:
        """The rows of a phase that have a time and whose case begins so, of all solvers or of one."""
        found = [r for r in self.rows if r.ms and r.phase == phase and r.case.startswith(start)]
        return [r for r in found if not solver or r.solver == solver]

    def sweep(self, phase: str, by: Sweep) -> dict[str, list[Row]]:
        """The rows of each solver that were solved, in the order of the size; one for each size."""
        found: dict[str, dict[int, Row]] = {}
        for row in sorted(self.of(phase, by.start), key=by.size):
            if row.solved == 1:
                found.setdefault(row.solver, {}).setdefault(by.size(row), row)
        return {name: list(rows.values()) for name, rows in found.items()}

    def speedups(self, phase: str) -> dict[str, list[tuple[float, bool]]]:
        """How many times as fast this library is, by peer: in each case, and whether the peer's answers are right."""
        ours = {r.case: r.ms for r in self.of(phase, solver=OURS) if r.ok}
        found: dict[str, list[tuple[float, bool]]] = {}
        for r in self.of(phase):
            if r.case in ours and r.solved == 1 and not r.solver.startswith(OURS):
                found.setdefault(r.solver, []).append((r.ms / ours[r.case], r.ok))
        return found

    def floors(self) -> list[tuple[str, float, float, float]]:
        """For each case the time of this library's forward, its floor, and the time divided by the floor."""
        found = [(r.case, r.ms, r.floor_ms_per_qp) for r in self.of("forward", solver=OURS) if r.floor_ms_per_qp]
        return [(case, ms, floor, ms / floor) for case, ms, floor in found]

    @property
    def machine(self) -> str:
        last = self.rows[-1]
        where = f"{last.cores} cores of an {last.machine}" if last.device == "cpu" else last.machine
        return f"{where}, {last.date[:10]}, commit {last.commit}"


def load(path: Path) -> Results:
    """The rows of the machine that was measured last."""
    rows = sorted((row for row in parsed(path, Row) if row.case in CASES), key=lambda row: row.date)
    return Results([row for row in rows if row.machine == rows[-1].machine])


def slope(sizes: list[int], times: list[float]) -> float:
    """The power of the size with which the time grows: the slope of the line through the logarithms."""
    return float(np.polyfit(np.log(sizes), np.log(times), 1)[0])
