"""ElastiQP: a C++ dual active set method for QPs whose inequalities may give way, at a price linear in the shift."""

from __future__ import annotations

from importlib.metadata import version

import torch
from torch import Tensor

from ..certificate import Answer
from . import base
from .base import Task, numpy
from .one_sided import OneSided

PENALTY = 1e4


class Adapter(base.Adapter):
    """``elastiqp.torch.solve``, its gradients smoothed by a thousandth of the accuracy asked for."""

    def __init__(self, task: Task):
        self.sides = OneSided(task.qp)
        super().__init__(task)
        from elastiqp.torch import solve

        self.solve = solve

    @staticmethod
    def objection(task: Task) -> str:
        return "float64 only" if task.qp.g.dtype.itemsize < 8 else ""

    @staticmethod
    def version() -> str:
        return version("elastiqp")

    def convert(self, leaves: dict[str, Tensor]) -> dict[str, Tensor]:
        return self.sides.convert(leaves)

    def forward(self, differentiable: bool) -> None:
        H, g, A, b, G, h = self.native.values()
        asked = {"eps_abs": self.task.accuracy, "target_kappa": 1e-3 * self.task.accuracy}
        with torch.set_grad_enabled(differentiable):
            self.result = self.solve(H, g, G, h, PENALTY, A=A, b=b, **asked)

    def backward(self, grad_x: Tensor) -> None:
        self.result.x.backward(grad_x)

    def answer(self) -> Answer:
        r = self.result
        z = torch.cat([r.y, self.sides.rows(r.z.detach())], -1)
        s = torch.cat([torch.zeros_like(r.y), self.sides.rows(r.t.detach())], -1)
        return Answer(*numpy(r.x, z, s), iterations=r.iters.double().mean().item())
