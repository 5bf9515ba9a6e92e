"""Solvers in C that take one problem a call, each in a loop on one core: DAQP, OSQP and quadprog."""

import os
from typing import Any

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from ..certificate import Answer
from ..problems import QP, below
from . import base
from .base import Task
from .forms import OneSided

PROCESSORS = os.cpu_count() or 1
EQUALITY = 5  # in DAQP


class DAQP(base.Adapter):
    """``daqp.solve``, whose first rows are the bounds of x.

    One problem takes what its call from Python takes. A batch takes the time in C that DAQP says of each, by the number
    of cores: as if processes shared it out among them, and lost nothing.
    """

    package = "daqp"
    differentiable = infeasible = single = False

    def __init__(self, task: Task):
        super().__init__(task)
        import daqp

        self.function = daqp.solve
        self.data = self.problems()
        self.sense = np.zeros(self.qp.n_box + self.qp.n_eq + self.qp.n_in, dtype=np.int32)
        self.sense[self.qp.n_box : self.qp.n_box + self.qp.n_eq] = EQUALITY
        self.asked = {"primal_tol": task.accuracy, "dual_tol": task.accuracy}
        if self.qp.H is None:
            self.asked["eps_prox"] = -1.0  # for an H that is singular

    def convert(self, leaves: dict[str, Tensor]) -> dict[str, Tensor]:
        H, g, A, b, C, l, u = QP(**leaves).two_sided(1e30).values()
        n_in = self.qp.n_in
        sides = {name: below(v[..., n_in:], b, v[..., :n_in]) for name, v in (("upper", u), ("lower", l))}
        return {"H": H, "g": g, "A": below(A, C[..., :n_in, :], dim=2), **sides}

    def shares(self, name: str) -> bool:
        return self.native[name].dim() == 1 + (name in "HA")

    def forward(self, differentiable: bool) -> None:
        solve, sense, asked = self.function, self.sense, self.asked
        self.results = [solve(p["H"], p["g"], p["A"], p["upper"], p["lower"], sense, **asked) for p in self.data]
        if len(self.data) > 1:
            self.seconds = sum(r[3]["setup_time"] + r[3]["solve_time"] for r in self.results) / PROCESSORS

    def answer(self) -> Answer:
        z = np.stack([r[3]["lam"] for r in self.results])
        z = np.concatenate([z[:, self.qp.n_box :], z[:, : self.qp.n_box]], 1)
        iterations = float(np.mean([r[3]["iterations"] for r in self.results]))
        return Answer(np.stack([r[0] for r in self.results]), z, iterations=iterations)


class OSQP(base.Adapter):
    """One ``osqp.OSQP``, set up outside of the time, that is given the numbers of each problem anew."""

    package = "osqp"
    differentiable = infeasible = single = False

    def __init__(self, task: Task):
        super().__init__(task)
        import osqp

        upper = np.tri(self.qp.n, dtype=bool).T
        self.data = [
            {
                "q": p["g"],
                "l": p["lower"],
                "u": p["upper"],
                "Px": p["H"].T[upper.T],  # the upper triangle, column by column
                "Ax": p["G"].T.ravel(),
            }
            for p in self.problems()
        ]
        first, rows = self.data[0], sparse.csc_matrix(np.ones(self.problems()[0]["G"].shape))
        rows.data = first["Ax"]
        cost = sparse.csc_matrix(upper.astype(float))
        cost.data = first["Px"]
        asked = {"eps_abs": task.accuracy, "eps_rel": 0.0, "max_iter": 10_000, "warm_starting": False, "verbose": False}
        self.solver = osqp.OSQP()
        self.solver.setup(cost, first["q"], rows, first["l"], first["u"], **asked)

    def convert(self, leaves: dict[str, Tensor]) -> dict[str, Tensor]:
        H, g, A, b, C, l, u = QP(**leaves).two_sided(1e30).values()
        return {"H": H, "g": g, "G": below(A, C, dim=2), "lower": below(b, l), "upper": below(b, u)}

    def shares(self, name: str) -> bool:
        return self.native[name].dim() == 1 + (name in "HG")

    def forward(self, differentiable: bool) -> None:
        self.results = []
        for arrays in self.data:
            self.solver.update(**arrays)
            r = self.solver.solve()
            self.results.append((r.x.copy(), r.y.copy(), r.info.iter))

    def answer(self) -> Answer:
        x, z, iterations = zip(*self.results, strict=True)
        return Answer(np.stack(x), np.stack(z), iterations=float(np.mean(iterations)))


class Quadprog(OneSided):
    """``quadprog.solve_qp``: the dual active set method of Goldfarb and Idnani, for a positive definite H."""

    package = "quadprog"
    differentiable = infeasible = single = False

    def __init__(self, task: Task):
        super().__init__(task)
        import quadprog

        self.function = quadprog.solve_qp
        self.data: list[Any] = [
            (p["H"], p["a"], np.asfortranarray(p["C"].T), p["b"], self.qp.n_eq) for p in self.problems()
        ]

    @classmethod
    def objection(cls, task: Task) -> str:
        return "no LP" if task.qp.H is None else super().objection(task)

    def convert(self, leaves: dict[str, Tensor]) -> dict[str, Tensor]:
        H, g, A, b, G, h = super().convert(leaves).values()
        return {"H": H, "a": -g, "C": below(A, -G, dim=2), "b": below(b, -h)}

    def shares(self, name: str) -> bool:
        return self.native[name].dim() == 1 + (name in "HC")

    def forward(self, differentiable: bool) -> None:
        self.results = [self.function(*arrays) for arrays in self.data]

    def answer(self) -> Answer:
        pushed = torch.tensor(np.stack([r[4] for r in self.results]))
        y, z = -pushed[:, : self.qp.n_eq], self.rows(pushed[:, self.qp.n_eq :])
        iterations = float(np.mean([r[3][0] for r in self.results]))
        return Answer(np.stack([r[0] for r in self.results]), torch.cat([y, z], -1).numpy(), iterations=iterations)
