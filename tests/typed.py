"""A user's script, which mypy checks as strictly as it can and test_typed.py runs."""

from typing import assert_type

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

import qplayer_gpu as qp


class Model(nn.Module):
    def __init__(self, n: int) -> None:
        super().__init__()
        self.encode = nn.Linear(3, n, dtype=torch.float64)
        self.layer = qp.QPLayer(qp.Settings(eps_abs=1e-7))

    def forward(self, features: Tensor, warm_start: qp.Solution | None = None) -> qp.Solution:
        return self.layer(None, self.encode(features), lb=-1.0, ub=1.0, warm_start=warm_start)


def project(points: NDArray[np.float64], C: NDArray[np.float64], u: NDArray[np.float64]) -> NDArray[np.float64]:
    sol = qp.solve_qp(np.eye(points.shape[-1]), -points, C=C, u=u)
    kept = assert_type(
        qp.certificate(sol, np.eye(points.shape[-1]), -points, C=C, u=u), qp.Certificate[NDArray[np.float64]]
    )
    return sol.check().x[kept.gap <= 1e-6]


def train(model: Model, features: Tensor, cache: qp.WarmStart) -> float:
    index = torch.arange(len(features))
    sol = model.layer(None, model.encode(features), lb=-1.0, ub=1.0, warm_start=cache[index])
    cache[index] = assert_type(sol, qp.Solution[Tensor])
    loss = sol.x[sol.solved].square().mean()
    loss.backward()  # type: ignore[no-untyped-call]
    qp.certificate(sol.detach(), None, model.encode(features), lb=-1.0, ub=1.0)
    return float(loss.detach())


lost = train(Model(2), torch.ones(4, 3, dtype=torch.float64), qp.WarmStart(4))
names: list[str] = qp.solve_qp(None, torch.ones(2).double(), lb=0.0).names()
inside = project(np.ones((5, 2)), np.ones((1, 2)), np.ones(1))
qp.solve_qp(None, "no array")  # type: ignore[type-var]  # refused before the program runs
