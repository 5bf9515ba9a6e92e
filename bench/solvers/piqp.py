"""The interior point methods PIQP and cuPIQP."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..certificate import Answer
from . import base
from .base import Task, numpy

NAMES = {"H": "P", "g": "c", "A": "A", "b": "b", "C": "G", "l": "h_l", "u": "h_u", "lb": "x_l", "ub": "x_u"}


def ask(settings: Any, accuracy: float) -> None:
    """Sets the tolerances."""
    settings.eps_abs = settings.eps_duality_gap_abs = settings.eps_duality_gap_rel = accuracy
    settings.eps_rel = 0.0


class Adapter(base.Adapter):
    """Arrays by their names there."""

    def convert(self, leaves: dict[str, Tensor]) -> dict[str, Tensor]:
        qp = self.qp
        return {"P": qp.g.new_zeros(qp.n, qp.n)} | {NAMES[k]: v for k, v in leaves.items()}


class PIQP(Adapter):
    """In C++, one problem after the other on one core: a new ``DenseSolver`` for each problem."""

    package = "piqp"
    differentiable = infeasible = single = False

    def __init__(self, task: Task):
        super().__init__(task)
        import piqp

        self.piqp = piqp
        self.data = [{k: np.asfortranarray(v) for k, v in arrays.items()} for arrays in self.problems()]

    def forward(self, differentiable: bool) -> None:
        self.results = []
        for arrays in self.data:
            solver = self.piqp.DenseSolver()
            ask(solver.settings, self.task.accuracy)
            solver.setup(**arrays)
            solver.solve()
            self.results.append(solver.result)

    def answer(self) -> Answer:
        def stacked(*names: str) -> list[Tensor]:
            return [torch.tensor(np.stack([getattr(r, name) for r in self.results])) for name in names]

        x, y, upper, lower, above, below = stacked("x", "y", "z_u", "z_l", "z_bu", "z_bl")
        z = torch.cat([y, upper - lower, (above - below)[:, : self.qp.n_box]], -1)
        return Answer(x.numpy(), z.numpy(), iterations=float(np.mean([r.info.iter for r in self.results])))


class CuPIQP(Adapter):
    """``cupiqp.torch.DenseSolverLayer``, in Warp: set up once for the sizes, outside of the time.

    Written from its documentation: not tried on a GPU yet.
    """

    package = "cupiqp"
    devices = ("cuda",)
    on_stream = False

    def __init__(self, task: Task):
        super().__init__(task)
        from cupiqp.torch import DenseSolverLayer

        self.layer = DenseSolverLayer(dtype=self.qp.g.dtype)
        ask(self.layer.settings, task.accuracy)
        self.layer.setup(**{name: array.detach() for name, array in self.native.items()})

    def solve(self) -> Tensor:
        return self.layer(**self.native)

    def answer(self) -> Answer:
        result, x, n_box = self.layer.result, self.x.detach(), self.qp.n_box

        def pushed(upper: Tensor | None, lower: Tensor | None, count: int) -> Tensor:
            absent = x.new_zeros(len(x), count)
            return (absent if upper is None else upper) - (absent if lower is None else lower)

        y = x[:, :0] if result.y is None else result.y
        rows = pushed(result.z_u, result.z_l, self.qp.n_in), pushed(result.z_bu, result.z_bl, n_box)
        return Answer(*numpy(x, torch.cat([y, *rows], -1)), iterations=result.iterations.double().mean().item())
