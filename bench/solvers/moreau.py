"""Moreau's interior point method: Rust on the CPU, CUDA on a GPU."""

from typing import Any

import torch
from torch import Tensor

from ..certificate import Answer
from ..problems import below
from .base import Task, numpy
from .forms import OneSided


class Adapter(OneSided):
    """``moreau.torch.Solver``: made once for the sizes and the entries that are not zero, outside of the time."""

    package = "moreau"
    devices = ("cpu", "cuda")
    single = False
    on_stream = False
    method = "ipm"

    def __init__(self, task: Task):
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
        known = dict.fromkeys(("tol_gap_abs", "tol_gap_rel", "tol_feas"), self.task.accuracy)
        return {"ipm_settings": moreau.IPMSettings(**known)}

    def masks(self) -> tuple[Tensor, Tensor]:
        """Which entries of H and of the rows may be other than zero: an identity row has one."""
        qp = self.qp
        P = torch.full((qp.n, qp.n), qp.H is not None)
        C = torch.cat([torch.ones(qp.n_in, qp.n, dtype=torch.bool), torch.eye(qp.n, dtype=torch.bool)[: qp.n_box]])
        equalities = torch.ones(qp.n_eq, qp.n, dtype=torch.bool)
        return P, torch.cat([equalities, C[self.upper.cpu()], C[self.lower.cpu()]])

    def convert(self, leaves: dict[str, Tensor]) -> dict[str, Tensor]:
        parts = super().convert(leaves)
        P, A = self.masks()
        rows = below(parts["A"], parts["G"], dim=2)
        b = below(parts["b"], parts["h"])
        P, A, batch = parts["H"][..., P], rows[..., A], self.qp.batch
        if P.dim() != A.dim():  # it wants both shared or neither
            P, A = P.expand(batch, -1), A.expand(batch, -1)
        return {"P": P, "A": A, "q": parts["g"], "b": b.expand(batch, -1)}

    def solve(self) -> Tensor:
        self.solution = self.solver.solve(*self.native.values())
        return self.solution.x

    def answer(self) -> Answer:
        y, z = self.solution.z.detach().split([self.qp.n_eq, self.solution.z.shape[-1] - self.qp.n_eq], -1)
        iterations = torch.as_tensor(self.solver.info.iterations).double().mean().item()
        return Answer(*numpy(self.solution.x, torch.cat([y, self.rows(z)], -1)), iterations=iterations)


class ActiveSet(Adapter):
    """By its dual active set method, for small QPs on the CPU."""

    devices = ("cpu",)
    method = "active_set"

    def settings(self, moreau: Any) -> dict[str, Any]:
        return {"active_set_settings": moreau.ActiveSetSettings(primal_tol=self.task.accuracy)}


def _offsets(mask: Tensor) -> tuple[Tensor, Tensor]:
    """Where the rows begin and the columns of their entries, in compressed rows."""
    begins = torch.cat([torch.zeros(1, dtype=torch.int64), mask.sum(1).cumsum(0)])
    return begins, mask.nonzero()[:, 1].contiguous()
