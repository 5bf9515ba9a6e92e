"""cuPIQP: an interior point method in Warp, for CUDA devices.

Written from its documentation: not tried on a GPU yet.
"""

import torch
from torch import Tensor

from ..certificate import Answer
from . import base, piqp
from .base import Task, numpy


class Adapter(base.Adapter):
    """``cupiqp.torch.DenseSolverLayer``: set up once for the sizes, outside of the time."""

    package = "cupiqp"
    devices = ("cuda",)
    on_stream = False
    convert = piqp.Adapter.convert

    def __init__(self, task: Task):
        super().__init__(task)
        from cupiqp.torch import DenseSolverLayer

        self.layer = DenseSolverLayer(dtype=self.qp.g.dtype)
        piqp.ask(self.layer.settings, task.accuracy)
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
