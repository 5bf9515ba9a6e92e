"""Layers of PyTorch that take ``G x <= h``: ElastiQP, qpth, and cvxpylayers over Moreau's active set method."""

import torch
from torch import Tensor

from ..certificate import Answer
from .base import Task, numpy
from .forms import OneSided

PENALTY = 1e4


class ElastiQP(OneSided):
    """``elastiqp.torch.solve``: a dual active set method whose inequalities may give way, at a linear price.

    Its gradients are smoothed by a thousandth of the accuracy asked for.
    """

    package = "elastiqp"
    single = False

    def __init__(self, task: Task):
        super().__init__(task)
        from elastiqp.torch import solve

        self.function = solve

    def solve(self) -> Tensor:
        H, g, A, b, G, h = (self.native[name] for name in ("H", "g", "A", "b", "G", "h"))
        asked = {"eps_abs": self.task.accuracy, "target_kappa": 1e-3 * self.task.accuracy}
        self.result = self.function(H, g, G, h, PENALTY, A=A, b=b, **asked)
        return self.result.x

    def answer(self) -> Answer:
        r = self.result
        z = torch.cat([r.y, self.rows(r.z.detach())], -1)
        s = torch.cat([torch.zeros_like(r.y), self.rows(r.t.detach())], -1)
        return Answer(*numpy(r.x, z, s), iterations=r.iters.double().mean().item())


class Qpth(OneSided):
    """``QPFunction`` of OptNet; its gradients of shared arrays are averages over the batch."""

    package = "qpth"
    devices = ("cpu", "cuda")
    averages = True

    def __init__(self, task: Task):
        super().__init__(task)
        from qpth.qp import QPFunction

        self.function = QPFunction(verbose=-1, eps=task.accuracy, check_Q_spd=False)
        order = (self.native[name] for name in ("H", "g", "G", "h", "A", "b"))
        self.arguments = [v if v.numel() else v.flatten() for v in order]

    @classmethod
    def objection(cls, task: Task) -> str:
        return "no LP" if task.qp.H is None else ""

    def solve(self) -> Tensor:
        return self.function(*self.arguments)

    def answer(self) -> Answer:
        """The multipliers are what it keeps for its backward: to be asked for after a differentiable forward."""
        kept = self.x.grad_fn
        y = kept.nus if self.qp.n_eq else kept.lams[:, :0]
        return Answer(*numpy(self.x, torch.cat([y, self.rows(kept.lams)], -1)))


class CvxpyLayers(OneSided):
    """``CvxpyLayer`` of the QP with all arrays as parameters; made once for the sizes, outside of the time.

    Every bound is a row of ``G x <= h``: with cvxpy 1.9.3 and Moreau 0.4.1 it dropped ``x >= 0`` without a word.
    """

    package = "cvxpylayers"
    single = False

    def __init__(self, task: Task):
        super().__init__(task)
        import cvxpy as cp
        import moreau
        from cvxpylayers.torch import CvxpyLayer

        x = cp.Variable(self.qp.n)
        parameters = {k: cp.Parameter(v.shape[-(k in "HAG") - 1 :], PSD=k == "H") for k, v in self.native.items()}
        H, g, A, b, G, h = (parameters.get(k) for k in ("H", "g", "A", "b", "G", "h"))
        rows = ([A @ x == b] if A is not None else []) + ([G @ x <= h] if G is not None else [])
        objective = g @ x if H is None else 0.5 * cp.quad_form(x, H) + g @ x
        multipliers = [row.dual_variables[0] for row in rows]
        problem = cp.Problem(cp.Minimize(objective), rows)
        tolerance = moreau.ActiveSetSettings(primal_tol=task.accuracy)
        asked = {"solver": "MOREAU", "solver_args": {"active_set_settings": tolerance}}
        self.layer = CvxpyLayer(problem, list(parameters.values()), [x, *multipliers], **asked)

    def convert(self, leaves: dict[str, Tensor]) -> dict[str, Tensor]:
        return {k: v for k, v in super().convert(leaves).items() if v.numel() and (k != "H" or "H" in leaves)}

    def solve(self) -> Tensor:
        x, *self.multipliers = self.layer(*self.native.values())
        return x

    def answer(self) -> Answer:
        z = self.multipliers[-1].detach() if "G" in self.native else self.x[:, :0]
        y = self.multipliers[:1] if "A" in self.native else []
        return Answer(*numpy(self.x, torch.cat([*y, self.rows(z)], -1)))


class DQP(OneSided):
    """``dQP_layer`` over DAQP: a loop over the batch, and a backward through the rows that are active.

    What the batch shares is copied for each problem, and a batch of one is none, as it wants it.
    """

    package = "libdqp"
    single = infeasible = False

    def __init__(self, task: Task):
        super().__init__(task)
        import dqp

        settings = dqp.build_settings(
            solve_type="dense", qp_solver="daqp", lin_solver="scipy LU", eps_abs=task.accuracy
        )
        self.layer = dqp.dQP_layer(settings=settings)

    @classmethod
    def objection(cls, task: Task) -> str:
        return "no LP" if task.qp.H is None else super().objection(task)

    def convert(self, leaves: dict[str, Tensor]) -> dict[str, Tensor]:
        found = super().convert(leaves)
        return {k: v if v.dim() == 2 + (k in "HAG") else v.expand(self.qp.batch, *v.shape) for k, v in found.items()}

    def solve(self) -> Tensor:
        arrays = (self.native[name] for name in ("H", "g", "A", "b", "G", "h"))
        H, g, A, b, G, h = (v.squeeze(0) if self.qp.batch == 1 else v for v in arrays)
        rows = {"A": A, "b": b} if self.qp.n_eq else {}
        x, self.y, self.z, *_ = self.layer(H, g, G, h, **rows)
        return x.reshape(self.qp.batch, self.qp.n)

    def answer(self) -> Answer:
        batch = self.qp.batch
        y = self.y.reshape(batch, -1) if self.qp.n_eq else self.x[:, :0]
        z = self.rows(self.z.detach().reshape(batch, -1))
        return Answer(*numpy(self.x, torch.cat([y, z], -1)))
