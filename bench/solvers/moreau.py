"""Moreau's interior point method: Rust on the CPU, CUDA on a GPU."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

import torch
from torch import Tensor

from ..certificate import Answer
from . import base
from .base import Task, numpy
from .one_sided import OneSided


class Adapter(base.Adapter):
    """``moreau.torch.Solver``: made once for the sizes and the entries that are not zero, outside of the time."""

    devices = ("cpu", "cuda")
    on_stream = False
    method = "ipm"

    def __init__(self, task: Task):
        self.sides = OneSided(task.qp)
        super().__init__(task)
        import moreau
        from moreau.torch import Solver

        qp, n_eq = self.qp, self.qp.n_eq
        P, A = self.masks()
        cones = moreau.Cones(num_zero_cones=n_eq, num_nonneg_cones=len(A) - n_eq)
        device = "cuda" if qp.g.is_cuda else "cpu"
        known = {"solver": self.method, "device": device, "batch_size": qp.batch, "enable_grad": True}
        settings = moreau.Settings(**known, **self.settings(moreau))
        self.solver = Solver(qp.n, len(A), *_offsets(P), *_offsets(A), cones=cones, settings=settings)

    def settings(self, moreau: Any) -> dict[str, Any]:
        """The tolerances of the method; the smoothing of its gradients is left out."""
        tolerances = ("tol_gap_abs", "tol_gap_rel", "tol_feas")
        known = dict.fromkeys(tolerances, self.task.accuracy)
        return {"ipm_settings": moreau.IPMSettings(**known)}

    @staticmethod
    def objection(task: Task) -> str:
        return "float64 only" if task.qp.g.dtype.itemsize < 8 else ""

    @staticmethod
    def version() -> str:
        return version("moreau")

    def masks(self) -> tuple[Tensor, Tensor]:
        """Which entries of H and of the rows may be other than zero: an identity row has one."""
        qp = self.qp
        P = torch.ones(qp.n, qp.n, dtype=torch.bool) if qp.H is not None else torch.zeros(qp.n, qp.n, dtype=torch.bool)
        identity = torch.eye(qp.n, dtype=torch.bool)[: qp.n_box]
        C = torch.cat([torch.ones(qp.n_in, qp.n, dtype=torch.bool), identity])
        equalities = torch.ones(qp.n_eq, qp.n, dtype=torch.bool)
        return P, torch.cat([equalities, C[self.sides.upper.cpu()], C[self.sides.lower.cpu()]])

    def convert(self, leaves: dict[str, Tensor]) -> dict[str, Tensor]:
        parts = self.sides.convert(leaves)
        P, A = self.masks()
        rows = base.below((parts["A"], 2), (parts["G"], 2))
        b = base.below((parts["b"], 1), (parts["h"], 1))
        P, A, batch = parts["H"][..., P], rows[..., A], self.qp.batch
        if P.dim() != A.dim():  # it wants both shared or neither
            P, A = P.expand(batch, -1), A.expand(batch, -1)
        return {"P": P, "A": A, "q": parts["g"], "b": b.expand(batch, -1)}

    def forward(self, differentiable: bool) -> None:
        with torch.set_grad_enabled(differentiable):
            self.solution = self.solver.solve(*self.native.values())

    def backward(self, grad_x: Tensor) -> None:
        self.solution.x.backward(grad_x)

    def answer(self) -> Answer:
        y, z = self.solution.z.detach().split([self.qp.n_eq, self.solution.z.shape[-1] - self.qp.n_eq], -1)
        iterations = torch.as_tensor(self.solver.info.iterations).double().mean().item()
        return Answer(*numpy(self.solution.x, torch.cat([y, self.sides.rows(z)], -1)), iterations=iterations)


def _offsets(mask: Tensor) -> tuple[Tensor, Tensor]:
    """Where the rows begin and the columns of their entries, in compressed rows."""
    begins = torch.cat([torch.zeros(1, dtype=torch.int64), mask.sum(1).cumsum(0)])
    return begins, mask.nonzero()[:, 1].contiguous()
