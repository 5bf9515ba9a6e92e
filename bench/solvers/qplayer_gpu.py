"""This library, with the backend that it chooses itself or another."""

import os

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

    @classmethod
    def version(cls) -> str:
        return qplayer_gpu.__version__

    def solve(self) -> Tensor:
        arguments = {"H": None} | self.native
        self.solution = qplayer_gpu.solve_qp(**arguments, settings=self.settings, backend=self.backend)
        return self.solution.x

    def answer(self) -> Answer:
        sol = self.solution
        m = self.qp.n_eq + self.qp.n_in + self.qp.n_box
        z = torch.cat([sol.y, sol.z, sol.z_box], -1)[:, :m]
        s = torch.cat([sol.s_eq, sol.s_in, sol.s_box], -1)[:, :m]
        return Answer(*numpy(sol.x, z, s), iterations=sol.info.iterations.double().mean().item())


class Torch(Adapter):
    """By its batched torch operations: what runs on any device, and where there is no compiler."""

    backend = "torch"


class Triton(Adapter):
    """By its Triton kernels: on a GPU, or with TRITON_INTERPRET=1 slowly anywhere."""

    backend = "triton"
    devices = ("cpu", "cuda") if os.environ.get("TRITON_INTERPRET") == "1" else ("cuda",)


class Cuda(Adapter):
    """By its CUDA kernels, compiled by CuPy: on a GPU."""

    backend = "cuda"
    devices = ("cuda",)
