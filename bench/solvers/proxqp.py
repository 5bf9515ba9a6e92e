"""ProxQP of proxsuite: C++, one dense QP per problem, solved in parallel."""

from __future__ import annotations

from importlib.metadata import version

import numpy as np

from ..cases import Case
from ..certificate import Answer
from ..problems import QP
from . import base

EPS = 1e-9
ABSENT = 1e20  # what ProxQP takes for infinity


class Adapter(base.Adapter):
    """``solve_in_parallel`` on a new ``BatchQP``: making it is part of the forward, as in a layer."""

    def __init__(self, qp: QP, gradients: tuple[str, ...], threads: int):
        super().__init__(qp, gradients, threads)
        from proxsuite import proxqp

        self.dense = proxqp.dense
        G, lo, hi = qp.rows(ABSENT)
        H = qp.g.new_zeros(qp.n, qp.n) if qp.H is None else qp.H
        b = lo[:, : qp.n_eq]
        parts = (H, qp.g, G[:, : qp.n_eq], b, G[:, qp.n_eq :], lo[:, qp.n_eq :], hi[:, qp.n_eq :])
        dims = (2, 1, 2, 1, 2, 1, 1)
        self.data = [_per_problem(t.numpy(), dim, qp.batch) for t, dim in zip(parts, dims, strict=True)]

    @staticmethod
    def supports(case: Case) -> bool:
        return case.feasible and not case.gradients

    @staticmethod
    def version() -> str:
        return version("proxsuite")

    def forward(self) -> None:
        self.batch = self.dense.BatchQP()
        shape = self.qp.n, self.qp.n_eq, self.qp.n_in + self.qp.n_box
        for H, g, A, b, C, l, u in zip(*self.data, strict=True):
            problem = self.batch.init_qp_in_place(*shape)
            settings = problem.settings
            settings.eps_abs, settings.eps_rel = EPS, 0.0
            settings.check_duality_gap = True
            settings.eps_duality_gap_abs = settings.eps_duality_gap_rel = EPS
            problem.init(H, g, A, b, C, l, u)
        self.dense.solve_in_parallel(self.batch, self.threads)

    def answer(self) -> Answer:
        results = [self.batch.get(i).results for i in range(self.batch.size())]
        x = np.stack([r.x for r in results])
        z = np.stack([np.concatenate([r.y, r.z]) for r in results])
        return Answer(x, z, iterations=float(np.mean([r.info.iter for r in results])))


def _per_problem(array: np.ndarray, dim: int, batch: int) -> list[np.ndarray]:
    """One contiguous array per problem; a shared one is the same for all."""
    if array.ndim == dim or len(array) == 1:
        return [np.ascontiguousarray(array.reshape(array.shape[-dim:]))] * batch
    return list(np.ascontiguousarray(array))
