"""This library, with the backend that it chooses itself."""

from __future__ import annotations

import torch
from torch import Tensor

import qplayer_gpu
from qplayer_gpu import Settings

from ..certificate import Answer
from . import base
from .base import Task, numpy


class Adapter(base.Adapter):
    """``qplayer_gpu.solve_qp``."""

    devices = ("cpu", "cuda")
    backend = "auto"

    def __init__(self, task: Task):
        super().__init__(task)
        self.settings = Settings(eps_abs=task.accuracy)

    @staticmethod
    def version() -> str:
        return qplayer_gpu.__version__

    def forward(self, differentiable: bool) -> None:
        with torch.set_grad_enabled(differentiable):
            arguments = {"H": None} | self.native
            self.solution = qplayer_gpu.solve_qp(**arguments, settings=self.settings, backend=self.backend)

    def backward(self, grad_x: Tensor) -> None:
        self.solution.x.backward(grad_x)

    def answer(self) -> Answer:
        sol = self.solution
        m = self.qp.n_eq + self.qp.n_in + self.qp.n_box
        z = torch.cat([sol.y, sol.z, sol.z_box], -1)[:, :m]
        s = torch.cat([sol.s_eq, sol.s_in, sol.s_box], -1)[:, :m]
        return Answer(*numpy(sol.x, z, s), iterations=sol.info.iterations.double().mean().item())
