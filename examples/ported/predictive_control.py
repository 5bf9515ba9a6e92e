"""The constrained controller of cvxpylayers' examples/torch/constrained_mpc.ipynb (1.2.0): one line changed.

A system with random noise is driven by a plan over five steps with limited controls. The weights of its states are
learned from an expert that knows them, one state at a time as in the notebook. CVXPY's own solve checks the plans.

    pip install -e '.[cvxpy]'
    cd examples && python -m ported.predictive_control
"""

from __future__ import annotations

import cvxpy as cp
import numpy as np
import torch
from torch import Tensor

from qplayer_gpu.compat import CvxpyLayer  # was: from cvxpylayers.torch import CvxpyLayer

n, m, T, LIMIT = 10, 4, 5, 0.5


def controller(A: np.ndarray, B: np.ndarray) -> tuple[cp.Problem, list[cp.Parameter], list[cp.Variable]]:
    """The plan from a state by some weights, and the first control of it."""
    x, weights = cp.Parameter(n), cp.Parameter(n, nonneg=True)
    states = [cp.Variable(n) for _ in range(T)]
    controls = [cp.Variable(m) for _ in range(T)]
    objective = cp.sum(cp.multiply(weights, cp.square(states[0]))) + cp.sum_squares(controls[0])
    constraints = [states[0] == x, cp.norm(controls[0], "inf") <= LIMIT]
    for t in range(1, T):
        objective += cp.sum(cp.multiply(weights, cp.square(states[t]))) + cp.sum_squares(controls[t])
        constraints += [states[t] == A @ states[t - 1] + B @ controls[t - 1]]
        constraints += [cp.norm(controls[t], "inf") <= LIMIT]
    return cp.Problem(cp.Minimize(objective), constraints), [x, weights], [controls[0]]


def train(steps: int = 40) -> tuple[list[float], tuple]:
    """The losses, and the problem with states, weights and the controls found for them."""
    rng = np.random.default_rng(0)
    torch.manual_seed(0)
    A = rng.standard_normal((n, n))
    A, B = A / np.abs(np.linalg.eigvals(A)).max(), rng.standard_normal((n, m))
    problem, parameters, variables = controller(A, B)
    policy = CvxpyLayer(problem, parameters, variables)

    true = torch.randn(n, dtype=torch.double).abs()
    weights = torch.ones(n, dtype=torch.double, requires_grad=True)
    optimizer = torch.optim.Adam([weights], lr=3e-2)
    state = torch.randn(n, dtype=torch.double)
    losses, found = [], []
    for _ in range(steps):
        with torch.no_grad():
            (wanted,) = policy(state, true)
        optimizer.zero_grad()
        loss = (policy(state, weights)[0] - wanted).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        found.append(([state, true], wanted))
        state = torch.tensor(A) @ state + torch.tensor(B) @ wanted + torch.randn(n, dtype=torch.double)
    return losses, (problem, parameters, variables, found)


def error(
    problem: cp.Problem, parameters: list[cp.Parameter], variables: list[cp.Variable],
    found: list[tuple[list[Tensor], Tensor]],
) -> float:  # fmt: skip
    """How far every tenth control is from that of CVXPY."""
    worst = 0.0
    for values, control in found[::10]:
        for p, value in zip(parameters, values, strict=True):
            p.value = value.numpy()
        problem.solve(cp.CLARABEL, tol_gap_abs=1e-11, tol_gap_rel=1e-11, tol_feas=1e-11)
        worst = max(worst, float(np.abs(variables[0].value - control.numpy()).max()))
    return worst


if __name__ == "__main__":
    losses, last = train()
    print(f"loss {losses[0]:.2e} -> {losses[-1]:.2e}, {error(*last):.1e} from CVXPY")
