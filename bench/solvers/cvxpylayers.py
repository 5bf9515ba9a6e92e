"""cvxpylayers, over Moreau, which takes its active set method for QPs of these sizes."""

import torch
from torch import Tensor

from ..certificate import Answer
from .base import Task, numpy
from .forms import OneSidedAdapter


class Adapter(OneSidedAdapter):
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
        return Answer(*numpy(self.x, torch.cat([*y, self.sides.rows(z)], -1)))
