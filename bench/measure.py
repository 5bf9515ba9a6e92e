"""One case on all solvers: each is checked, which warms it up, then they are timed in turn."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from qplayer_gpu import Settings

from . import floor, gradient
from .cases import CASES, SIZES, Case
from .floor import Peak
from .problems import QP
from .processes import Worker
from .rows import Row, environment, judge
from .solvers import OURS
from .solvers.base import LADDER

LEAST_ROUNDS = 3
SECONDS = 1.0  # of one solver in the rounds of one case: past them, and with LEAST_ROUNDS done, it leaves
Answers = dict[str, Any]


@dataclass(frozen=True)
class Run:
    """Where and how much is measured, the processes, and the bar that shows how far it is."""

    size: str
    device: str
    peak: Peak
    workers: dict[str, Worker]
    progress: tqdm

    def rows(self, case: str) -> list[Row]:
        """One row for each solver and phase, or one that says why there is none."""
        where = environment(self.device) | vars(self.peak)
        qp = CASES[case].problems(SIZES[self.size])
        found = reference(CASES[case], qp.head(SIZES[self.size].head))
        checks: dict[str, Answers] = {}
        for name, worker in self.workers.items():
            self.progress.set_description(f"{case}: {name}")
            check = worker.ask("check", case=case, size=self.size, reference=found)
            checks[name] = check | {"factored": found["factored"]}
            self.progress.update()
        times = self._rounds([name for name, check in checks.items() if "failure" not in check])
        checks |= {name: answer for name, answer in times.items() if "failure" in answer}
        where |= {"case": case, "family": CASES[case].family, "dtype": str(qp.g.dtype).removeprefix("torch.")}
        where |= {"n": qp.n, "n_eq": qp.n_eq, "n_in": qp.n_in, "n_box": qp.n_box, "asked": qp.batch}
        return [
            row
            for name, check in checks.items()
            for row in self._rows(where | {"solver": name}, qp, check, times.get(name, {}))
        ]

    def _rounds(self, names: list[str]) -> dict[str, Answers]:
        """Seconds by solver and phase; a solver that has had its share of the time leaves."""
        times: dict[str, Answers] = {name: {} for name in names}
        for done in range(SIZES[self.size].rounds):
            for name, taken in times.items():
                if "failure" in taken or (done >= LEAST_ROUNDS and sum(map(sum, taken.values())) >= SECONDS):
                    continue
                found = self.workers[name].ask("time")
                more = "failure" not in found
                times[name] = {phase: [*taken.get(phase, []), s] for phase, s in found.items()} if more else found
            self.progress.update()
        return times

    def _rows(self, known: Answers, qp: QP, check: Answers, times: Answers) -> list[Row]:
        """Those of one solver, by its check and its seconds in each phase."""
        if "failure" in check:
            return [Row(**known, phase="forward", verdict=check["failure"])]
        errors, found = check["gradient_errors"], check["row"]
        floors = {"forward": self._floor(qp, check) if known["solver"] == OURS else None}
        rows = []
        for phase, seconds in times.items():
            compared = {} if phase == "forward" else errors
            verdict = judge(found["solved"], compared, qp.g.dtype)
            measured = {f"ms_per_qp_p{p}": np.percentile(seconds, p) * 1e3 / found["batch"] for p in (50, 20, 80)}
            measured |= {"gradient_error": max(compared.values(), default=None), "floor_ms_per_qp": floors.get(phase)}
            rows.append(Row(**known, **found, **measured, phase=phase, repeats=len(seconds), verdict=verdict))
        return rows

    def _floor(self, qp: QP, check: Answers) -> float:
        """The least milliseconds of the forward of one problem."""
        stored = qp.n_eq + qp.n_in
        steps = check["row"]["iterations"], check["factored"]
        flops = floor.operations(qp.n, stored, check["active"], *steps, linear=qp.H is None)
        batched = [array[0].nbytes for name, array in qp.arrays().items() if not qp.shares(name)]
        answer = (qp.n + 2 * (stored + qp.n_box)) * torch.float64.itemsize
        return floor.milliseconds(flops, sum(batched) + answer, self.peak)


def reference(case: Case, head: QP) -> Answers:
    """Central differences of answers of this library to the head of the batch; the share of steps that factor."""
    derivatives, regular = gradient.central_differences(head, case.wanted(head), case.feasible)
    factored = floor.factored(head, Settings(eps_abs=LADDER[0]))
    return {"derivatives": derivatives, "regular": regular, "factored": factored}
