"""cuPIQP: an interior point method in Warp, for CUDA devices.

Written from its documentation: not tried on a GPU yet.
"""

from __future__ import annotations

from importlib.metadata import version

import torch
from torch import Tensor

from ..certificate import Answer
from . import base
from .base import Task, numpy
from .piqp import NAMES


class Adapter(base.Adapter):
    """``cupiqp.torch.DenseSolverLayer``: set up once for the sizes, outside of the time."""

    devices = ("cuda",)
    on_stream = False

    def __init__(self, task: Task):
        super().__init__(task)
        from cupiqp.torch import DenseSolverLayer

        self.layer = DenseSolverLayer(dtype=self.qp.g.dtype)
        settings = self.layer.settings
        settings.eps_abs = settings.eps_duality_gap_abs = settings.eps_duality_gap_rel = task.accuracy
        settings.eps_rel = 0.0
        self.layer.setup(**{name: array.detach() for name, array in self.native.items()})

    @staticmethod
    def version() -> str:
        return version("cupiqp")

    def convert(self, leaves: dict[str, Tensor]) -> dict[str, Tensor]:
        qp = self.qp
        return {"P": qp.g.new_zeros(qp.n, qp.n)} | {NAMES[name]: array for name, array in leaves.items()}

    def forward(self, differentiable: bool) -> None:
        with torch.set_grad_enabled(differentiable):
            self.x = self.layer(**self.native)

    def backward(self, grad_x: Tensor) -> None:
        self.x.backward(grad_x)

    def answer(self) -> Answer:
        result, x, n_box = self.layer.result, self.x.detach(), self.qp.n_box

        def pushed(upper: Tensor | None, lower: Tensor | None, count: int) -> Tensor:
            absent = x.new_zeros(len(x), count)
            return (absent if upper is None else upper) - (absent if lower is None else lower)

        y = x[:, :0] if result.y is None else result.y
        rows = pushed(result.z_u, result.z_l, self.qp.n_in), pushed(result.z_bu, result.z_bl, n_box)
        return Answer(*numpy(x, torch.cat([y, *rows], -1)), iterations=result.iterations.double().mean().item())
