"""Whether a second run puts the solvers in the same order as the first."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from statistics import median

from .points import NAMES, Results
from .solvers import OURS

TIE = 1.25  # times closer to each other than this are no order


@dataclass(frozen=True)
class Pair:
    """Two solvers in one case and phase: the time of the one by that of the other, in each run."""

    case: str
    phase: str
    one: str
    other: str
    first: float
    second: float

    @property
    def swapped(self) -> bool:
        return (self.first < 1) != (self.second < 1)

    @property
    def tie(self) -> bool:
        return all(1 / TIE < ratio < TIE for ratio in (self.first, self.second))

    def __str__(self) -> str:
        names = f"{NAMES[self.one]} by {NAMES[self.other]}"
        return f"{self.case}, {self.phase}: {names} {self.first:.2f}, there {self.second:.2f}"


def pairs(first: Results, second: Results) -> Iterator[Pair]:
    """All pairs of solvers that both runs have timed."""
    times = [{(p.case, p.phase, p.solver): p.ms for p in run.points} for run in (first, second)]
    where = dict.fromkeys((case, phase) for case, phase, _ in times[0])
    for case, phase in where:
        names = [name for name in NAMES if all((case, phase, name) in run for run in times)]
        for one, other in combinations(names, 2):
            ratios = [run[case, phase, one] / run[case, phase, other] for run in times]
            yield Pair(case, phase, one, other, *ratios)


def compared(first: Results, second: Results) -> str:
    """Markdown: how much of the order is the same, and what is not."""
    found = list(pairs(first, second))
    swapped = [p for p in found if p.swapped]
    ties, ours = sum(p.tie for p in swapped), sum(OURS in (p.one, p.other) for p in swapped)
    shared = {(p.case, p.phase, p.solver): p.ms for p in first.points}
    ratios = [p.ms / shared[key] for p in second.points if (key := (p.case, p.phase, p.solver)) in shared]
    text = (
        f"Another run, {second.machine}: of {len(found)} pairs of solvers in the same case and phase, {len(swapped)} "
        f"come in another order, {ties} of them closer to each other than {TIE - 1:.0%} in both runs; {ours} of the "
        "pairs have this library with the backend that it chooses. Its times are "
        f"{median(ratios):.2f} of those above in the median."
    )
    clear = [p for p in swapped if not p.tie]
    return "\n".join([text, *([""] if clear else []), *(f"- {pair}" for pair in clear)])
