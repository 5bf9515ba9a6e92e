"""qpth: a batched interior point method in torch (OptNet)."""

from __future__ import annotations

from importlib.metadata import version

import torch
from torch import Tensor

from ..certificate import Answer
from . import base
from .base import Task, numpy
from .one_sided import OneSided


class Adapter(base.Adapter):
    """``QPFunction``; its gradients of shared arrays are averages over the batch, and are multiplied by its size."""

    devices = ("cpu", "cuda")

    def __init__(self, task: Task):
        self.sides = OneSided(task.qp)
        super().__init__(task)
        from qpth.qp import QPFunction

        self.function = QPFunction(verbose=-1, eps=task.accuracy, check_Q_spd=False)
        none = self.qp.g.new_zeros(0)
        self.arguments = [v if v.numel() else none for v in self.native.values()]

    @staticmethod
    def objection(task: Task) -> str:
        return "no LP" if task.qp.H is None else ""

    @staticmethod
    def version() -> str:
        return version("qpth")

    def convert(self, leaves: dict[str, Tensor]) -> dict[str, Tensor]:
        native = self.sides.convert(leaves)
        return {name: native[name] for name in ("H", "g", "G", "h", "A", "b")}

    def forward(self, differentiable: bool) -> None:
        with torch.set_grad_enabled(differentiable):
            self.x = self.function(*self.arguments)

    def backward(self, grad_x: Tensor) -> None:
        self.x.backward(grad_x)

    def native_gradient(self, name: str) -> Tensor | None:
        gradient = super().native_gradient(name)
        shared = self.native[name].dim() == 1 + (name in ("H", "A", "G"))
        return gradient * self.qp.batch if shared and gradient is not None else gradient

    def answer(self) -> Answer:
        """The multipliers are what it keeps for its backward: to be asked for after a differentiable forward."""
        kept = self.x.grad_fn
        y = kept.nus if self.qp.n_eq else kept.lams[:, :0]
        return Answer(*numpy(self.x, torch.cat([y, self.sides.rows(kept.lams)], -1)))
