"""ProxQP of proxsuite: C++, one dense QP per problem, solved in parallel."""

from __future__ import annotations

import os
from importlib.metadata import version

import numpy as np
from torch import Tensor

from ..certificate import Answer
from . import base
from .base import Task

ABSENT = 1e20  # what ProxQP takes for infinity
NEVER = 1e-12  # by its default thresholds it takes feasible LPs for infeasible


class Adapter(base.Adapter):
    """``solve_in_parallel`` on a new ``BatchQP``: making it is part of the forward, as in a layer."""

    differentiable = False

    def __init__(self, task: Task):
        super().__init__(task)
        from proxsuite import proxqp

        self.dense = proxqp.dense
        dims = {"H": 2, "g": 1, "A": 2, "b": 1, "C": 2, "l": 1, "u": 1}
        self.data = [_per_problem(self.native[k].numpy(), dim, self.qp.batch) for k, dim in dims.items()]

    @staticmethod
    def objection(task: Task) -> str:
        return objection(task)

    @staticmethod
    def version() -> str:
        return version("proxsuite")

    def convert(self, leaves: dict[str, Tensor]) -> dict[str, Tensor]:
        qp = self.qp
        G, lo, hi = qp.rows(ABSENT)
        H = qp.g.new_zeros(qp.n, qp.n) if qp.H is None else qp.H
        A, C, b, l, u = G[:, : qp.n_eq], G[:, qp.n_eq :], lo[:, : qp.n_eq], lo[:, qp.n_eq :], hi[:, qp.n_eq :]
        return {"H": H, "g": qp.g, "A": A, "b": b, "C": C, "l": l, "u": u}

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


def objection(task: Task) -> str:
    """Of a solver that gives no gradients, no float32 and no closest feasible answer."""
    if not task.feasible:
        return "feasible problems only"
    return "float64 only" if task.qp.g.dtype.itemsize < 8 else ""


def _per_problem(array: np.ndarray, dim: int, batch: int) -> list[np.ndarray]:
    """One contiguous array per problem; a shared one is the same for all."""
    if array.ndim == dim or len(array) == 1:
        return [np.ascontiguousarray(array.reshape(array.shape[-dim:]))] * batch
    return list(np.ascontiguousarray(array))
