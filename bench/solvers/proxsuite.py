"""proxsuite: ProxQP, in C++, and the QPLayer over it."""

import os

import numpy as np
import torch
from torch import Tensor

from ..certificate import Answer
from ..problems import QP
from . import base
from .base import Task, numpy

ABSENT = 1e20  # what ProxQP takes for infinity
NEVER = 1e-12  # by its default thresholds it takes feasible LPs for infeasible
PROCESSORS = os.cpu_count() or 1


class Adapter(base.Adapter):
    """Rows of two sides, in float64."""

    package = "proxsuite"
    single = False

    def convert(self, leaves: dict[str, Tensor]) -> dict[str, Tensor]:
        return QP(**leaves).two_sided(ABSENT)


class ProxQP(Adapter):
    """``solve_in_parallel`` on a new ``BatchQP``: making it is part of the forward, as in a layer."""

    differentiable = infeasible = False

    def __init__(self, task: Task):
        super().__init__(task)
        from proxsuite import proxqp

        self.dense = proxqp.dense
        self.data = self.problems()

    def forward(self, differentiable: bool) -> None:
        self.batch = self.dense.BatchQP()
        shape = self.qp.n, self.qp.n_eq, self.qp.n_in + self.qp.n_box
        for arrays in self.data:
            problem = self.batch.init_qp_in_place(*shape)
            settings = problem.settings
            settings.eps_abs, settings.eps_rel = self.task.accuracy, 0.0
            settings.check_duality_gap = True
            settings.eps_duality_gap_abs = settings.eps_duality_gap_rel = self.task.accuracy
            settings.eps_primal_inf = settings.eps_dual_inf = NEVER
            problem.init(**arrays)
        self.dense.solve_in_parallel(self.batch, PROCESSORS)

    def answer(self) -> Answer:
        results = [self.batch.get(i).results for i in range(self.batch.size())]
        x = np.stack([r.x for r in results])
        z = np.stack([np.concatenate([r.y, r.z]) for r in results])
        return Answer(x, z, iterations=float(np.mean([r.info.iter for r in results])))


class QPLayer(Adapter):
    """``QPFunction(omp_parallel=True)``, in the mode for infeasible problems where they are.

    That mode wants C, l and u shared by the batch and at least one equality. Three things are set in its favour: it
    runs on half of the processors that Python counts, so it is shown twice as many; some of its buffers have torch's
    default dtype, so that is float64 here; and gradients of shared arrays, which that mode averages over the batch,
    are multiplied by its size.
    """

    def __init__(self, task: Task):
        super().__init__(task)
        from proxsuite.torch.qplayer import QPFunction

        os.cpu_count = lambda: 2 * PROCESSORS
        torch.set_default_dtype(torch.float64)
        self.averages = not task.feasible
        known = {"eps": task.accuracy, "eps_backward": min(task.accuracy, 1e-4), "omp_parallel": True}
        self.function = QPFunction(structural_feasibility=task.feasible, **known)

    @classmethod
    def objection(cls, task: Task) -> str:
        qp = task.qp
        if not task.feasible and (not qp.n_eq or any(not qp.shares(k) for k in ("C", "l", "u") if k in qp.arrays())):
            return "infeasible: only with equalities, and C, l and u shared"
        return super().objection(task)

    def solve(self) -> Tensor:
        x, *self.rows = self.function(*self.native.values())
        return x

    def answer(self) -> Answer:
        y, z, *shifts = self.rows
        s = numpy(torch.cat(shifts, -1)) if shifts else []
        return Answer(*numpy(self.x, torch.cat([y, z], -1)), *s)
