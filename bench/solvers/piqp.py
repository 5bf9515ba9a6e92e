"""PIQP: a C++ interior point method, called in a loop over the batch, on one core."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..certificate import Answer
from . import base
from .base import Task

NAMES = {"H": "P", "g": "c", "A": "A", "b": "b", "C": "G", "l": "h_l", "u": "h_u", "lb": "x_l", "ub": "x_u"}


class Adapter(base.Adapter):
    """A new ``DenseSolver`` for each problem."""

    package = "piqp"
    differentiable = infeasible = single = False

    def __init__(self, task: Task):
        super().__init__(task)
        import piqp

        self.piqp = piqp
        batch = self.qp.batch
        arrays = {k: v.numpy() if v.dim() > (k in "PAG") + 1 else [v.numpy()] * batch for k, v in self.native.items()}
        matrices = {k: [np.asfortranarray(array) for array in arrays[k]] for k in arrays if k in "PAG"}
        self.problems = [{k: v[i] for k, v in (arrays | matrices).items()} for i in range(batch)]

    def convert(self, leaves: dict[str, Tensor]) -> dict[str, Tensor]:
        qp = self.qp
        return {"P": qp.g.new_zeros(qp.n, qp.n)} | {NAMES[k]: v for k, v in leaves.items()}

    def forward(self, differentiable: bool) -> None:
        self.results = []
        for problem in self.problems:
            solver = self.piqp.DenseSolver()
            ask(solver.settings, self.task.accuracy)
            solver.setup(**problem)
            solver.solve()
            self.results.append(solver.result)

    def answer(self) -> Answer:
        def stacked(*names: str) -> list[Tensor]:
            return [torch.tensor(np.stack([getattr(r, name) for r in self.results])) for name in names]

        x, y, upper, lower, above, below = stacked("x", "y", "z_u", "z_l", "z_bu", "z_bl")
        z = torch.cat([y, upper - lower, (above - below)[:, : self.qp.n_box]], -1)
        return Answer(x.numpy(), z.numpy(), iterations=float(np.mean([r.info.iter for r in self.results])))


def ask(settings: Any, accuracy: float) -> None:
    """Sets the tolerances."""
    settings.eps_abs = settings.eps_duality_gap_abs = settings.eps_duality_gap_rel = accuracy
    settings.eps_rel = 0.0
