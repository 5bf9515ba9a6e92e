"""This library, with the backend that it chooses itself."""

from __future__ import annotations

import torch
from torch import Tensor

import qplayer_gpu
from qplayer_gpu import Settings

from ..cases import Case
from ..certificate import Answer
from ..problems import QP
from . import base


class Adapter(base.Adapter):
    """``qplayer_gpu.solve_qp``, at its default tolerances unless told otherwise."""

    backend = "auto"

    def __init__(self, qp: QP, gradients: tuple[str, ...], threads: int, settings: Settings | None = None):
        super().__init__(qp, gradients, threads)
        self.settings = settings
        self.arrays = dict(qp.arrays())
        for name in gradients:
            self.arrays[name] = self.arrays[name].clone().requires_grad_()

    @staticmethod
    def supports(case: Case) -> bool:
        return True

    @staticmethod
    def version() -> str:
        return qplayer_gpu.__version__

    def forward(self) -> None:
        with torch.set_grad_enabled(bool(self.gradients)):
            self.solution = qplayer_gpu.solve_qp(**self.arrays, settings=self.settings, backend=self.backend)

    def backward(self, grad_x: Tensor) -> None:
        self.solution.x.backward(grad_x)

    def answer(self) -> Answer:
        sol = self.solution
        m = self.qp.n_eq + self.qp.n_in + self.qp.n_box
        z = torch.cat([sol.y, sol.z, sol.z_box], -1)[:, :m]
        s = torch.cat([sol.s_eq, sol.s_in, sol.s_box], -1)[:, :m]
        iterations = sol.info.iterations.double().mean().item()
        return Answer(*(t.detach().numpy() for t in (sol.x, z, s)), iterations)

    def gradient(self, name: str) -> Tensor:
        return self.arrays[name].grad
