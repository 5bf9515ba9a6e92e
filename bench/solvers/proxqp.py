"""ProxQP of proxsuite: C++, one dense QP per problem, solved in parallel."""

import os

import numpy as np
from torch import Tensor

from ..certificate import Answer
from ..problems import QP
from . import base
from .base import Task

ABSENT = 1e20  # what ProxQP takes for infinity
NEVER = 1e-12  # by its default thresholds it takes feasible LPs for infeasible


class Adapter(base.Adapter):
    """``solve_in_parallel`` on a new ``BatchQP``: making it is part of the forward, as in a layer."""

    package = "proxsuite"
    differentiable = infeasible = single = False

    def __init__(self, task: Task):
        super().__init__(task)
        from proxsuite import proxqp

        self.dense = proxqp.dense
        self.data = [_per_problem(v.numpy(), 1 + (k in "HAC"), self.qp.batch) for k, v in self.native.items()]

    def convert(self, leaves: dict[str, Tensor]) -> dict[str, Tensor]:
        return QP(**leaves).two_sided(ABSENT)

    def forward(self, differentiable: bool) -> None:
        self.batch = self.dense.BatchQP()
        shape = self.qp.n, self.qp.n_eq, self.qp.n_in + self.qp.n_box
        for H, g, A, b, C, l, u in zip(*self.data, strict=True):
            problem = self.batch.init_qp_in_place(*shape)
            settings = problem.settings
            settings.eps_abs, settings.eps_rel = self.task.accuracy, 0.0
            settings.check_duality_gap = True
            settings.eps_duality_gap_abs = settings.eps_duality_gap_rel = self.task.accuracy
            settings.eps_primal_inf = settings.eps_dual_inf = NEVER
            problem.init(H, g, A, b, C, l, u)
        self.dense.solve_in_parallel(self.batch, os.cpu_count() or 1)

    def answer(self) -> Answer:
        results = [self.batch.get(i).results for i in range(self.batch.size())]
        x = np.stack([r.x for r in results])
        z = np.stack([np.concatenate([r.y, r.z]) for r in results])
        return Answer(x, z, iterations=float(np.mean([r.info.iter for r in results])))


def _per_problem(array: np.ndarray, dim: int, batch: int) -> list[np.ndarray]:
    """One contiguous array per problem; a shared one is the same for all."""
    array = np.ascontiguousarray(array)
    return [array] * batch if array.ndim == dim else list(array)
