"""The rows of one machine as points: a time, and what its answers are worth."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .cases import CASES
from .solvers import OURS
from .table import Line, read

SWEEP_N, SWEEP_BATCH = "mixed_n", "batch_"


@dataclass(frozen=True)
class Point:
    """One row: a time, and what its answers are worth."""

    case: str
    solver: str
    phase: str
    n: int
    batch: int
    ms: float  # per QP, the median
    error: float | None
    solved: bool
    verdict: str
    floor: float | None

    @property
    def ok(self) -> bool:
        return self.verdict == "ok"


@dataclass(frozen=True)
class Results:
    """The rows of one machine."""

    lines: list[Line]
    points: list[Point]

    def of(self, phase: str, start: str = "", solver: str = "") -> list[Point]:
        """Those of a phase whose case begins so, of all solvers or of one."""
        found = [p for p in self.points if p.phase == phase and p.case.startswith(start)]
        return [p for p in found if not solver or p.solver == solver]

    def sweep(self, phase: str, start: str, by: Callable[[Point], int]) -> dict[str, list[Point]]:
        """The points of each solver that were solved, in the order of a size; one for each size."""
        found: dict[str, dict[int, Point]] = {}
        for point in sorted(self.of(phase, start), key=by):
            if point.solved:
                found.setdefault(point.solver, {}).setdefault(by(point), point)
        return {name: list(points.values()) for name, points in found.items()}

    def speedups(self, phase: str) -> dict[str, list[tuple[str, float, bool]]]:
        """How many times as fast this library is, by peer: for each case, and whether the peer's answers are right."""
        ours = {p.case: p for p in self.of(phase, solver=OURS) if p.ok}
        found: dict[str, list[tuple[str, float, bool]]] = {}
        for p in self.of(phase):
            if p.case in ours and p.solved and not p.solver.startswith(OURS):
                found.setdefault(p.solver, []).append((p.case, p.ms / ours[p.case].ms, p.ok))
        return found

    @property
    def machine(self) -> str:
        first = self.lines[-1]
        where = f"{first['cores']} cores of an {first['machine']}" if first["device"] == "cpu" else first["machine"]
        return f"{where}, {first['date'][:10]}, commit {first['commit']}"


def load(path: Path) -> Results:
    """The rows of the machine that was measured last."""
    lines = [line for line in read(path) if line["case"] in CASES]
    machine = max(lines, key=lambda line: line["date"])["machine"]
    lines = sorted((line for line in lines if line["machine"] == machine), key=lambda line: line["date"])
    return Results(lines, [_point(line) for line in lines if line["ms_per_qp_p50"]])


def _point(line: Line) -> Point:
    def number(name: str) -> float | None:
        return float(line[name]) if line[name] else None

    known = {"case": line["case"], "solver": line["solver"], "phase": line["phase"], "n": int(line["n"])}
    worth = {"error": number("gradient_error"), "solved": float(line["solved"]) == 1, "verdict": line["verdict"]}
    return Point(
        **known, batch=int(line["batch"]), ms=float(line["ms_per_qp_p50"]), **worth, floor=number("floor_ms_per_qp")
    )


def slope(sizes: list[int], times: list[float]) -> float:
    """Of the line that fits best through the logarithms: the power with which the time grows."""
    return float(np.polyfit(np.log(sizes), np.log(times), 1)[0])
