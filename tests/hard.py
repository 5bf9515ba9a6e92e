"""Generators of QPs that users have and random Gaussian ones are not: ill-scaled, degenerate, LP-like."""

import math

import torch
from families import Arguments, _hessian, _random, times

from qplayer_gpu.control import condense


def ill_scaled(B: int, n: int, seed: int = 0, decades: float = 4.0) -> Arguments:
    """A feasible QP whose rows and columns differ by factors of up to 10^(2 decades)."""
    normal, uniform = _random(seed)
    k, m = max(1, n // 4), n
    H, A, C, x = _hessian(normal, B, n), normal(B, k, n), normal(B, m, n), normal(B, n)
    slack, g = uniform(B, m), normal(B, n)

    def scales(*shape):
        return 10 ** (decades * (uniform(*shape) - 0.5))

    columns, row_a, row_c = scales(B, n), scales(B, k), scales(B, m)
    A = A * columns.unsqueeze(-2) * row_a.unsqueeze(-1)
    C = C * columns.unsqueeze(-2) * row_c.unsqueeze(-1)
    H = H * columns.unsqueeze(-1) * columns.unsqueeze(-2)
    x = x / columns
    return {"H": H, "g": g * columns, "A": A, "b": times(A, x), "C": C, "u": times(C, x) + slack * row_c}


def degenerate(B: int, n: int, seed: int = 0) -> Arguments:
    """Redundant, duplicated, zero and free rows, fixed variables, weakly active rows, H of rank n / 2."""
    normal, uniform = _random(seed)
    k, half = max(1, n // 4), max(1, n // 2)
    M = normal(B, n, half)
    A, C, x = normal(B, k, n), normal(B, n, n), normal(B, n)
    A = torch.cat([A, A[:, :1], A.sum(1, keepdim=True)], 1)  # dependent equalities
    C = torch.cat([C, C[:, :half], torch.zeros(B, 1, n, dtype=torch.float64), normal(B, 1, n)], 1)
    slack = uniform(B, C.shape[1])
    slack[:, :half] = 0.0  # active at the known point
    slack[:, n : n + half] = 0.0
    u, l = times(C, x) + slack, torch.full((B, C.shape[1]), -torch.inf, dtype=torch.float64)
    u[:, -1] = torch.inf  # a free row
    lb, ub = x - 1 - uniform(B, n), x + 1 + uniform(B, n)
    lb[:, 0] = ub[:, 0] = x[:, 0]
    z = uniform(B, C.shape[1]) * (slack == 0) * (uniform(B, C.shape[1]) < 0.5)  # half of the active rows weakly so
    H = M @ M.mT / n
    g = -times(H, x) - times(C.mT, z) - times(A.mT, normal(B, A.shape[1]))  # x is optimal
    return {"H": H, "g": g, "A": A, "b": times(A, x), "C": C, "l": l, "u": u, "lb": lb, "ub": ub}


def netlib_like(B: int, n: int, seed: int = 0, little: float = 0.0) -> Arguments:
    """A sparse LP of several scales with x >= 0, degenerate at its optimum; with a little H of rank n / 10 if asked."""
    normal, uniform = _random(seed)
    k, m = n // 3, n // 3

    def sparse(*shape):
        return torch.where(uniform(*shape) < 0.1, normal(*shape) * 10 ** (2 * uniform(*shape) - 1), 0.0)

    A, C = sparse(B, k, n), sparse(B, m, n)
    A[:, range(k), range(k)] += 1.0
    C[:, range(m), range(m)] += 1.0
    basic = uniform(B, n) < 0.4
    x = torch.where(basic, uniform(B, n) * 10 ** (2 * uniform(B, n) - 1), 0.0)
    slack = torch.where(uniform(B, m) < 0.5, uniform(B, m), 0.0)
    y, z = normal(B, k), -uniform(B, m) * (slack == 0)
    reduced = torch.where(basic, 0.0, uniform(B, n))
    args = {"H": None, "A": A, "b": times(A, x), "C": C, "u": times(C, x) + slack}
    g = reduced - times(A.mT, y) + times(C.mT, z)
    if little:
        rank = max(1, n // 10)
        M = little * sparse(B, n, rank)
        args["H"] = M @ M.mT
        g = g - times(args["H"], x)
    return {**args, "g": g, "lb": torch.zeros(n, dtype=torch.float64)}


def unbounded(B: int, n: int, seed: int = 0) -> Arguments:
    """A direction of descent without curvature that no row stops: H of any rank below n, n / 4 equalities, n rows."""
    normal, uniform = _random(seed)
    d = normal(B, n, 1)
    d = d / d.norm(dim=1, keepdim=True)

    def across(M):
        return M - (M @ d) * d.mT

    k, rank = n // 4, seed % n
    M = across(normal(B, max(rank, 1), n)) * (rank > 0)
    A, C = across(normal(B, k, n)), across(normal(B, n, n)) - uniform(B, n, 1) * d.mT
    x, g = normal(B, n), across(normal(B, 1, n)) - (0.1 + uniform(B, 1, 1)) * d.mT
    args = {"H": M.mT @ M, "g": g.squeeze(1), "C": C, "u": times(C, x) + uniform(B, n)}
    return args | ({"A": A, "b": times(A, x)} if k else {})


def rescaled(args: Arguments, seed: int, decades: float = 4.0) -> Arguments:
    """The same problems with each row in another unit, over the decades: an infeasible one has another closest."""
    _, uniform = _random(seed)
    out = dict(args)
    for rows, sides in (("A", ("b",)), ("C", ("l", "u"))):
        if args.get(rows) is None:
            continue
        factor = 10 ** (decades * (uniform(args[rows].shape[-2]) - 0.5))
        out[rows] = args[rows] * factor[:, None]
        out |= {side: args[side] * factor for side in sides if args.get(side) is not None}
    return out


def resized(args: Arguments, unit: torch.Tensor) -> Arguments:
    """The same problems in unknowns x / unit, [n]."""
    out = dict(args) | {name: args[name] / unit for name in ("lb", "ub") if args.get(name) is not None}
    out |= {name: args[name] * unit for name in ("g", "A", "C") if args.get(name) is not None}
    return out | {"H": None if args["H"] is None else args["H"] * unit.unsqueeze(-1) * unit}


def boxed(B, n, seed=0):
    """Rows that hold at the optimum, in a box that is wider."""
    normal, uniform = _random(seed)
    args = {"H": _hessian(normal, B, n), "g": normal(B, n), "C": normal(B, n, n), "u": uniform(B, n)}
    return args | {"lb": torch.full((n,), -3.0).double(), "ub": torch.full((n,), 3.0).double()}


def demand(B, n, seed=0):
    """Rows that ask for more than the box holds: C x >= l with C > 0, 0 <= x <= 1."""
    normal, uniform = _random(seed)
    C = 0.1 + uniform(B, 3, n)
    args = {"H": _hessian(normal, B, n), "g": normal(B, n), "C": C}
    return args | {"l": C.sum(-1) + 0.2 + uniform(B, 3), "lb": torch.zeros(n).double(), "ub": torch.ones(n).double()}


def budget(B, n, seed=0):
    """Hard budgets A x = b and x >= 0 against soft demands; x keeps some freedom."""
    normal, uniform = _random(seed)
    A = torch.zeros(B, 1, n).double()
    A[..., : n // 2] = 0.5 + uniform(B, 1, n // 2)
    C = torch.zeros(B, 2, n).double()
    C[..., : n // 2] = A[..., : n // 2] * torch.tensor([[1.0], [2.0]]).double()
    args = {"H": _hessian(normal, B, n), "g": normal(B, n), "A": A, "b": torch.ones(B, 1).double(), "C": C}
    return args | {"l": 3 + uniform(B, 2)}


def walled(B, n, seed=0):
    """Plans of n / 2 steps for chains of four masses that are beyond their walls, with a motor at each end.

    The limits of the motors are hard. The walls give way, those of the inner masses a hundred times as easily.
    """
    normal, _ = _random(seed)
    steps, one = max(1, n // 2), torch.eye(4).double()
    flow = torch.zeros(10, 10).double()
    flow[:4, 4:8], flow[4, 8], flow[7, 9] = one, 1.0, 1.0
    flow[4:8, :4] = one.roll(1, 0).tril() + one.roll(-1, 0).triu() - 2 * one
    flow[4:8, 4:8] = 0.1 * flow[4:8, :4]
    stepped = torch.matrix_exp(0.2 * flow)[:8]
    costs = {"Q": torch.eye(8).double(), "R": 0.1 * torch.eye(2).double()}
    limits = {"E": torch.eye(4, 8).double(), "x_min": -1.0, "x_max": 1.0, "u_min": -1.0, "u_max": 1.0}
    plan = condense(A=stepped[:, :8], B=stepped[:, 8:], x0=normal(B, 8), horizon=steps, **costs, **limits)
    weights = torch.tensor([100.0, 1.0, 1.0, 100.0]).double().repeat(steps)
    return plan.arguments | {"w_in": weights, "w_box": math.inf}
