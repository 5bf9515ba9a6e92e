"""ElastiQP: a C++ dual active set method for QPs whose inequalities may give way, at a price linear in the shift."""

import torch
from torch import Tensor

from ..certificate import Answer
from .base import Task, numpy
from .forms import OneSidedAdapter

PENALTY = 1e4


class Adapter(OneSidedAdapter):
    """``elastiqp.torch.solve``, its gradients smoothed by a thousandth of the accuracy asked for."""

    package = "elastiqp"
    single = False

    def __init__(self, task: Task):
        super().__init__(task)
        from elastiqp.torch import solve

        self.function = solve

    def solve(self) -> Tensor:
        H, g, A, b, G, h = (self.native[name] for name in ("H", "g", "A", "b", "G", "h"))
        asked = {"eps_abs": self.task.accuracy, "target_kappa": 1e-3 * self.task.accuracy}
        self.result = self.function(H, g, G, h, PENALTY, A=A, b=b, **asked)
        return self.result.x

    def answer(self) -> Answer:
        r = self.result
        z = torch.cat([r.y, self.sides.rows(r.z.detach())], -1)
        s = torch.cat([torch.zeros_like(r.y), self.sides.rows(r.t.detach())], -1)
        return Answer(*numpy(r.x, z, s), iterations=r.iters.double().mean().item())
