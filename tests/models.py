"""QPs as models in CVXPY, with data: examples and tests of cvxpylayers (f0b1c15), and what else there may be."""

import cvxpy as cp
import numpy as np
import torch


def rand(*shape):
    return torch.randn(*shape, dtype=torch.float64)


def numbers(*shape):
    return rand(*shape).numpy()


def stable(n, m):
    """A system that does not blow up."""
    A = numbers(n, n)
    return A / np.abs(np.linalg.eigvals(A)).max(), numbers(n, m)


def absolute_regression():
    """The first example of its README."""
    x, A, b = cp.Variable(2), cp.Parameter((3, 2)), cp.Parameter(3)
    problem = cp.Problem(cp.Minimize(0.5 * cp.pnorm(A @ x - b, p=1)), [x >= 0])
    return problem, [A, b], [x], [rand(16, 3, 2), rand(16, 3)]


def least_squares():
    """test_least_squares of its tests/test_torch.py."""
    m, n = 100, 20
    x, A, b = cp.Variable(n), cp.Parameter((m, n)), cp.Parameter(m)
    problem = cp.Problem(cp.Minimize(cp.sum_squares(A @ x - b) + cp.sum_squares(x)))
    return problem, [A, b], [x], [rand(m, n), rand(16, m)]


def quadratic_form():
    """test_quad_form_psd_parameter_dpp there."""
    x, Q, q = cp.Variable(3), cp.Parameter((3, 3), PSD=True), cp.Parameter(3)
    problem = cp.Problem(cp.Minimize(0.5 * cp.quad_form(x, Q) + q @ x), [x >= -1, x <= 1])
    F = rand(16, 3, 3)
    return problem, [Q, q], [x], [F @ F.mT + torch.eye(3), 2 * rand(16, 3)]


def predictive_control(B=16):
    """examples/torch/constrained_mpc.ipynb."""
    n, m, horizon, limit = 10, 4, 5, 0.5
    A, N = stable(n, m)
    x, weights = cp.Parameter(n), cp.Parameter(n, nonneg=True)
    states = [cp.Variable(n) for _ in range(horizon)]
    controls = [cp.Variable(m) for _ in range(horizon)]
    constraints = [states[0] == x, *(cp.norm(u, "inf") <= limit for u in controls)]
    constraints += [after == A @ s + N @ u for s, u, after in zip(states, controls, states[1:], strict=False)]
    costs = [
        cp.sum(cp.multiply(weights, cp.square(s))) + cp.sum_squares(u) for s, u in zip(states, controls, strict=True)
    ]
    problem = cp.Problem(cp.Minimize(cp.sum(costs)), constraints)
    return problem, [x, weights], [controls[0]], [rand(B, n), rand(n).abs() + 0.1]


def regulator(limit=None, B=6):
    """examples/torch/lqr.ipynb, and constrained_lqr.ipynb with a limit."""
    n, m = (4, 2) if limit is None else (8, 2)
    A, N = stable(n, m)
    x, P_sqrt, q = cp.Parameter((n, 1)), cp.Parameter((n, n)), cp.Parameter(n)
    u, after = cp.Variable((m, 1)), cp.Variable((n, 1))
    cost = cp.quad_form(u, np.eye(m)) + cp.sum_squares(P_sqrt @ after)
    constraints, given, tensors = [after == A @ x + N @ u], [x, P_sqrt], [rand(B, n, 1), rand(n, n)]
    if limit is not None:
        cost, given, tensors = cost + q @ after, [*given, q], [*tensors, rand(n)]
        constraints += [cp.norm(u, "inf") <= limit]
    return cp.Problem(cp.Minimize(cost), constraints), given, [u], tensors


def constrained_regulator():
    return regulator(limit=0.1)


def markowitz():
    """examples/torch/markowitz_tuning.ipynb."""
    n, kappa, short = 12, np.full(12, 0.001), np.full(12, 0.001)
    holdings, cov_sqrt, mu = cp.Parameter(n), cp.Parameter((n, n)), cp.Parameter(n)
    trades, after = cp.Variable(n), cp.Variable(n)
    worth = mu @ after - cp.sum_squares(cov_sqrt @ after)
    spent = cp.sum(trades) + kappa @ cp.abs(trades) + short @ cp.neg(after)
    problem = cp.Problem(cp.Maximize(worth), [spent <= 0, after == holdings + trades])
    F = 0.3 * torch.eye(n, dtype=torch.float64) + 0.1 * rand(n, n)
    return problem, [holdings, cov_sqrt, mu], [trades], [rand(10, n).softmax(-1), F, 1 + 0.01 * rand(n)]


def relu():
    """examples/torch/ReLU Layers.ipynb."""
    n, m = 8, 8
    z, V = cp.Variable(m), cp.Variable((m, n))
    W, b, x = cp.Parameter((m, n)), cp.Parameter(m), cp.Parameter(n)
    problem = cp.Problem(cp.Minimize(cp.sum_squares(z - V @ x - b)), [z >= 0, V == W])
    return problem, [W, b, x], [z], [rand(m, n), rand(m), rand(16, n)]


def denoising():
    """examples/torch/signal_denoising.ipynb, half as long."""
    n = 50
    y, residual = cp.Variable(n), cp.Variable(n)
    x, theta, weight = cp.Parameter(n), cp.Parameter((n, n)), cp.Parameter(pos=True)
    cost = cp.sum_squares(theta @ residual) + weight * cp.sum_squares(cp.diff(y))
    problem = cp.Problem(cp.Minimize(cost), [residual == x - y])
    scale = torch.tensor(0.5, dtype=torch.float64)
    return problem, [x, theta, weight], [y], [rand(16, n), torch.eye(n).double() + 0.1 * rand(n, n), scale]


def springs():
    """examples/torch/optimizing_stiffness_constants.ipynb."""
    n, length, width = 5, 1, 0.05
    k, x = cp.Parameter(n + 1, nonneg=True), cp.Variable(n + 2)
    apart = [x[i] - x[i - 1] >= width for i in range(1, n + 2)]
    problem = cp.Problem(
        cp.Minimize(cp.sum(cp.multiply(k, 0.5 * cp.square(cp.diff(x))))), [x[0] == 0, x[-1] == length, *apart]
    )
    return problem, [k], [x], [1 + 5 * rand(16, n + 1).abs()]


def supply_chain():
    """examples/torch/supply_chain.ipynb."""
    n, k, c, links = 4, 2, 2, 8
    into, out = np.zeros((n, links)), np.zeros((n, links))
    into[[0, 1, 2, 2, 3, 3], [0, 1, 2, 5, 3, 4]] = 1
    out[[0, 0, 1, 2, 3, 3], [2, 3, 4, 6, 5, 7]] = 1
    P_sqrt, q, x = cp.Parameter((n, n)), cp.Parameter((n, 1)), cp.Parameter((n + k + c, 1))
    h, p, d = x[:n], x[n : n + k], x[n + k :]
    u, after = cp.Variable((links, 1)), cp.Variable((n, 1))
    prices = cp.vstack([p, np.full((4, 1), 0.05), np.full((2, 1), -1.3)])
    cost = prices.T @ u + cp.sum_squares(P_sqrt @ after) + q.T @ after
    rows = [after == h + (into - out) @ u, after <= 3, u >= 0, u <= 2, out @ u <= h, u[[6, 7]] <= d]
    state = torch.cat([0.5 + rand(8, n, 1).abs(), rand(8, k + c, 1).exp()], 1)
    return cp.Problem(cp.Minimize(cost), rows), [x, P_sqrt, q], [u], [state, 0.5 * rand(n, n), 0.1 * rand(n, 1)]


EXAMPLES = [
    absolute_regression, least_squares, quadratic_form, predictive_control, regulator, constrained_regulator, markowitz,
    relu, denoising, springs, supply_chain,
]  # fmt: skip


def attributes():
    """Of variables and parameters: symmetric, diagonal, sparse, and bounds of each kind."""
    S, D = cp.Variable((3, 3), symmetric=True), cp.Variable((3, 3), diag=True)
    T = cp.Variable((3, 2), sparsity=([0, 2], [1, 0]))
    v = cp.Variable((2, 3), bounds=[-0.3, np.arange(6.0).reshape(2, 3) / 8])
    w = cp.Variable(3, nonpos=True)
    M, E, b = cp.Parameter((3, 3), symmetric=True), cp.Parameter((3, 3), diag=True), cp.Parameter((2, 3))
    cost = cp.sum_squares(S - 2 * M) + cp.sum_squares(D + S - E) + cp.sum_squares(v - b) + cp.sum_squares(w - b[0])
    problem = cp.Problem(cp.Minimize(cost + cp.sum_squares(T - M[:, :2])), [cp.sum(S, axis=0) <= 0.5])
    F, e = rand(4, 3, 3), torch.diag_embed(rand(4, 3))
    return problem, [E, M, b], [v, S, D, T, w], [e, F + F.mT, rand(2, 3)]


def bounds_of_parameters():
    low, high, g = cp.Parameter((2, 2)), cp.Parameter(), cp.Parameter((2, 2))
    x = cp.Variable((2, 2), bounds=[low, high])
    problem = cp.Problem(cp.Minimize(cp.sum_squares(x - g)), [x[0, 0] + x[1, 0] <= 1])
    return problem, [low, high, g], [x], [rand(2, 2) - 1, torch.tensor(0.7).double(), 2 * rand(16, 2, 2)]


def piecewise():
    """Maxima and absolute values in the objective and in constraints."""
    x, b, r = cp.Variable(4), cp.Parameter(4), cp.Parameter(nonneg=True)
    cost = cp.sum_squares(x - b) + cp.norm1(cp.diff(x)) + cp.max(x) + cp.pos(x[0]) + r * cp.huber(x[1], 1)
    rows = [cp.abs(x[2:]) <= r, cp.norm1(x) <= 2 * r, cp.maximum(x[0], x[1]) <= 1]
    return cp.Problem(cp.Minimize(cost), rows), [r, b], [x], [torch.tensor(0.9).double(), 2 * rand(16, 4)]


MODELS = [*EXAMPLES, attributes, bounds_of_parameters, piecewise]
