"""The QPLayer of proxsuite."""

from __future__ import annotations

import os
from importlib.metadata import version

import torch
from torch import Tensor

from ..certificate import Answer
from . import base
from .base import Task, numpy

ABSENT = 1e20  # what ProxQP takes for infinity
PROCESSORS = os.cpu_count() or 1


class Adapter(base.Adapter):
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
        known = {"eps": task.accuracy, "eps_backward": min(task.accuracy, 1e-4), "omp_parallel": True}
        self.function = QPFunction(structural_feasibility=task.feasible, **known)

    @staticmethod
    def objection(task: Task) -> str:
        qp = task.qp
        if not task.feasible and (not qp.n_eq or any(not qp.shares(k) for k in ("C", "l", "u") if k in qp.arrays())):
            return "infeasible: only with equalities, and C, l and u shared"
        return "float64 only" if qp.g.dtype.itemsize < 8 else ""

    @staticmethod
    def version() -> str:
        return version("proxsuite")

    def convert(self, leaves: dict[str, Tensor]) -> dict[str, Tensor]:
        qp, g = self.qp, leaves["g"]
        identity = torch.eye(qp.n, dtype=g.dtype)[: qp.n_box]
        missing = {"l": (qp.n_in, -ABSENT), "u": (qp.n_in, ABSENT), "lb": (qp.n_box, -ABSENT), "ub": (qp.n_box, ABSENT)}
        sides = {k: leaves.get(k, g.new_full((size,), value)) for k, (size, value) in missing.items()}
        C = leaves.get("C", g.new_zeros(0, qp.n))
        return {
            "H": leaves.get("H", g.new_zeros(qp.n, qp.n)),
            "g": g,
            "A": leaves.get("A", g.new_zeros(0, qp.n)),
            "b": leaves.get("b", g.new_zeros(0)),
            "C": base.below((C, 2), (identity, 2)),
            "l": base.below((sides["l"], 1), (sides["lb"], 1)).clamp(min=-ABSENT),
            "u": base.below((sides["u"], 1), (sides["ub"], 1)).clamp(max=ABSENT),
        }

    def forward(self, differentiable: bool) -> None:
        with torch.set_grad_enabled(differentiable):
            self.solution = self.function(*self.native.values())

    def backward(self, grad_x: Tensor) -> None:
        self.solution[0].backward(grad_x)

    def native_gradient(self, name: str) -> Tensor | None:
        gradient = super().native_gradient(name)
        shared = not self.task.feasible and self.native[name].dim() == 1 + (name in ("H", "A", "C"))
        return gradient * self.qp.batch if shared and gradient is not None else gradient

    def answer(self) -> Answer:
        x, y, z, *shifts = self.solution
        s = numpy(torch.cat(shifts, -1)) if shifts else []
        return Answer(*numpy(x, torch.cat([y, z], -1)), *s)
