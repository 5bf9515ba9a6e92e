"""cvxpylayers, over Moreau, which takes its active set method for QPs of these sizes."""

from __future__ import annotations

from importlib.metadata import version

import torch
from torch import Tensor

from ..certificate import Answer
from . import base
from .base import Task, numpy
from .one_sided import OneSided


class Adapter(base.Adapter):
    """``CvxpyLayer`` of the QP with all arrays as parameters; made once for the sizes, outside of the time.

    Every bound is a row of ``G x <= h``: with cvxpy 1.9.3 and Moreau 0.4.1 it dropped ``x >= 0`` without a word.
    """

    def __init__(self, task: Task):
        self.sides = OneSided(task.qp)
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

    @staticmethod
    def objection(task: Task) -> str:
        return "float64 only" if task.qp.g.dtype.itemsize < 8 else ""

    @staticmethod
    def version() -> str:
        return version("cvxpylayers")

    def convert(self, leaves: dict[str, Tensor]) -> dict[str, Tensor]:
        native = self.sides.convert(leaves)
        return {k: v for k, v in native.items() if v.numel() and (k != "H" or "H" in leaves)}

    def forward(self, differentiable: bool) -> None:
        with torch.set_grad_enabled(differentiable):
            self.solution = self.layer(*self.native.values())

    def backward(self, grad_x: Tensor) -> None:
        self.solution[0].backward(grad_x)

    def answer(self) -> Answer:
        x, *multipliers = (t.detach() for t in self.solution)
        z = multipliers[-1] if "G" in self.native else x[:, :0]
        y = multipliers[:1] if "A" in self.native else []
        return Answer(*numpy(x, torch.cat([*y, self.sides.rows(z)], -1)))
