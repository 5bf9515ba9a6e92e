"""The Sudoku of QPLayer's examples/python/qplayer_sudoku.py (proxsuite 0.8.0) in its two modes: one line changed.

A linear program whose equalities ``A x = b`` are learned. In the feasible mode b = A z0, in the other b = 1 and the
layer answers with the closest feasible program. The puzzles are made here. HiGHS (scipy) says what the programs of the
last step are worth, with the sides shifted by the least squares of Lawson and Hanson (nnls) where they are infeasible.
QPLayer's own answers miss that in the feasible mode: docs/migrating.md has the figures.

    cd examples && python -m ported.sudoku
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.optimize import linprog, nnls
from torch import Tensor, nn

from qplayer_gpu.compat import ProxsuiteQPFunction as QPFunction  # was: from proxsuite.torch.qplayer import QPFunction
from sudoku import make_puzzles

N, RULES = 64, 40  # cells times digits, and the rank of the rules of 4 x 4 puzzles


class Layer(nn.Module):
    """The two modules of the script in one."""

    def __init__(self, feasible: bool) -> None:
        super().__init__()
        self.feasible = feasible
        self.Q, self.G = torch.zeros(N, N).double(), -torch.eye(N).double()
        self.u, self.l = torch.zeros(N).double(), torch.full((N,), -1.0e20).double()
        self.A = nn.Parameter(torch.rand(RULES, N).double())
        self.log_z0 = nn.Parameter(torch.zeros(N).double())

    def forward(self, puzzles: Tensor) -> tuple[Tensor, Tensor]:
        """The answers [B, 64], and the size of the shifts."""
        if self.feasible:
            self.b = self.A.mv(self.log_z0.exp())
            x, _, _ = QPFunction(maxIter=1000)(self.Q, -puzzles, self.A, self.b, self.G, self.l, self.u)
            return x, torch.zeros(())
        self.b = torch.ones(RULES).double()
        call = QPFunction(structural_feasibility=False)
        x, _, _, s_e, s_i = call(self.Q, -puzzles, self.A, self.b, self.G, self.l, self.u)
        return x, s_e.norm(2) + s_i.norm(2)


def error(puzzles: Tensor, A: Tensor, b: Tensor, x: Tensor) -> float:
    """By how much answers of the (closest feasible) programs are off: rows, or the objective next to HiGHS'."""
    A, b, x = (t.numpy() for t in (A, b, x))
    negative = np.block([[A, -A], [np.zeros((N, N)), np.eye(N)]])  # x = v[:N] - v[N:], of which the last weigh
    v, _ = nnls(negative, np.concatenate([b, np.zeros(N)]), maxiter=100 * N)
    low = -v[N:]
    b = A @ (v[:N] - v[N:])
    worst = max(np.abs(x @ A.T - b).max(), (low - x).max())
    for c, answer in zip(-puzzles.numpy(), x, strict=True):
        best = linprog(c, A_eq=A, b_eq=b, bounds=np.column_stack([low, np.full(N, np.inf)]), method="highs").fun
        worst = max(worst, abs(c @ answer - best))
    return float(worst)


def train(feasible: bool = True, steps: int = 3, batch: int = 20) -> tuple[list[float], tuple[Tensor, ...]]:
    """The losses, and the last programs with their answers."""
    torch.manual_seed(0)
    puzzles, solutions = make_puzzles(steps * batch, seed=0)
    model = Layer(feasible)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-2)
    losses = []
    for x, y in zip(puzzles.split(batch), solutions.split(batch), strict=True):
        answer, shift = model(x)
        loss = nn.functional.mse_loss(answer, y) + 1e-3 * shift
        program = model.A.detach().clone(), model.b.detach().clone()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses, (x, *program, answer.detach())


if __name__ == "__main__":
    for feasible in (True, False):
        losses, last = train(feasible)
        print(f"{feasible=}: loss {losses[0]:.4f} -> {losses[-1]:.4f}, {error(*last):.1e} from HiGHS")
