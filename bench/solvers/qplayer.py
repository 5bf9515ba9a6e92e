"""The QPLayer of proxsuite in its mode for problems that may be infeasible."""

from __future__ import annotations

import os
from importlib.metadata import version

import torch
from torch import Tensor

from ..cases import Case
from ..certificate import Answer
from ..problems import QP
from . import base

ABSENT = 1e20  # what ProxQP takes for infinity


class Adapter(base.Adapter):
    """``QPFunction(structural_feasibility=False, omp_parallel=True)`` at its default tolerances.

    That mode wants C, l and u shared by the batch and at least one equality. Two things are set in its favour: it runs
    on half of the processors that Python counts, so it is shown twice as many as it shall use; and some of its buffers
    have torch's default dtype, so that is float64 here. It averages the gradients of shared arrays over the batch; they
    are multiplied by its size for comparison.
    """

    def __init__(self, qp: QP, gradients: tuple[str, ...], threads: int):
        super().__init__(qp, gradients, threads)
        from proxsuite.torch.qplayer import QPFunction

        os.cpu_count = lambda: 2 * threads
        torch.set_default_dtype(torch.float64)
        self.function = QPFunction(structural_feasibility=False, omp_parallel=True)
        G, lo, hi = (t[0, qp.n_eq :] for t in qp.rows(ABSENT))
        H = qp.g.new_zeros(qp.n, qp.n) if qp.H is None else qp.H
        self.arrays = {"H": H, "g": qp.g, "A": qp.A, "b": qp.b, "C": G, "l": lo, "u": hi}
        for name in gradients:
            self.arrays[name] = self.arrays[name].clone().requires_grad_()

    @staticmethod
    def supports(case: Case) -> bool:
        return not case.feasible

    @staticmethod
    def version() -> str:
        return version("proxsuite")

    def forward(self) -> None:
        with torch.set_grad_enabled(bool(self.gradients)):
            self.solution = self.function(*self.arrays.values())

    def backward(self, grad_x: Tensor) -> None:
        self.solution[0].backward(grad_x)

    def answer(self) -> Answer:
        x, y, z, s_eq, s_in = (t.detach().double() for t in self.solution)
        return Answer(x.numpy(), torch.cat([y, z], -1).numpy(), torch.cat([s_eq, s_in], -1).numpy())

    def gradient(self, name: str) -> Tensor:
        array = self.arrays[name]
        shared = array.dim() == 1 + (name in ("H", "A", "C"))
        return array.grad * (self.qp.batch if shared else 1)
