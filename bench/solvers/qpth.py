"""qpth: a batched interior point method in torch (OptNet)."""

import torch
from torch import Tensor

from ..certificate import Answer
from .base import Task, numpy
from .forms import OneSidedAdapter


class Adapter(OneSidedAdapter):
    """``QPFunction``; its gradients of shared arrays are averages over the batch."""

    package = "qpth"
    devices = ("cpu", "cuda")
    averages = True

    def __init__(self, task: Task):
        super().__init__(task)
        from qpth.qp import QPFunction

        self.function = QPFunction(verbose=-1, eps=task.accuracy, check_Q_spd=False)
        none = self.qp.g.new_zeros(0)
        order = (self.native[name] for name in ("H", "g", "G", "h", "A", "b"))
        self.arguments = [v if v.numel() else none for v in order]

    @classmethod
    def objection(cls, task: Task) -> str:
        return "no LP" if task.qp.H is None else ""

    def solve(self) -> Tensor:
        return self.function(*self.arguments)

    def answer(self) -> Answer:
        """The multipliers are what it keeps for its backward: to be asked for after a differentiable forward."""
        kept = self.x.grad_fn
        y = kept.nus if self.qp.n_eq else kept.lams[:, :0]
        return Answer(*numpy(self.x, torch.cat([y, self.sides.rows(kept.lams)], -1)))
