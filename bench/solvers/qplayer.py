"""The QPLayer of proxsuite."""

import os

import torch
from torch import Tensor

from ..certificate import Answer
from ..problems import QP
from . import base
from .base import Task, numpy
from .proxqp import ABSENT

PROCESSORS = os.cpu_count() or 1


class Adapter(base.Adapter):
    """``QPFunction(omp_parallel=True)``, in the mode for infeasible problems where they are.

    That mode wants C, l and u shared by the batch and at least one equality. Three things are set in its favour: it
    runs on half of the processors that Python counts, so it is shown twice as many; some of its buffers have torch's
    default dtype, so that is float64 here; and gradients of shared arrays, which that mode averages over the batch,
    are multiplied by its size.
    """

    package = "proxsuite"
    single = False

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

    def convert(self, leaves: dict[str, Tensor]) -> dict[str, Tensor]:
        return QP(**leaves).two_sided(ABSENT)

    def solve(self) -> Tensor:
        x, *self.rows = self.function(*self.native.values())
        return x

    def answer(self) -> Answer:
        y, z, *shifts = self.rows
        s = numpy(torch.cat(shifts, -1)) if shifts else []
        return Answer(*numpy(self.x, torch.cat([y, z], -1)), *s)
