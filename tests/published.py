"""Small published QPs with their optima: Hock and Schittkowski (1981), and the collection of Maros and Meszaros (1999).

Each is the arguments of solve_qp, the constant of the objective and the optimum.
"""

import torch
from torch import Tensor

INF = torch.inf
Published = tuple[dict[str, Tensor], float, float]


def _qp(H, g, constant, optimum, A=None, b=None, C=None, l=None, u=None, lb=None, ub=None) -> Published:
    given = {"H": H, "g": g, "A": A, "b": b, "C": C, "l": l, "u": u, "lb": lb, "ub": ub}
    args = {k: torch.as_tensor(v, dtype=torch.float64) for k, v in given.items() if v is not None}
    return args, constant, optimum


def _squares(terms, n):
    """``sum_k (a_k'x - c_k)^2`` as H, g and its constant; a term is ({index: coefficient}, c), indices from 1."""
    a = torch.zeros(len(terms), n, dtype=torch.float64)
    c = torch.tensor([float(constant) for _, constant in terms], dtype=torch.float64)
    for k, (coefficients, _) in enumerate(terms):
        for index, value in coefficients.items():
            a[k, index - 1] = value
    return 2 * a.T @ a, -2 * a.T @ c, float(c @ c)


def _rows(rows, n):
    G = torch.zeros(len(rows), n, dtype=torch.float64)
    for k, coefficients in enumerate(rows):
        for index, value in coefficients.items():
            G[k, index - 1] += value
    return G


def hs21() -> Published:
    return _qp([[0.02, 0], [0, 2]], [0, 0], -100, -99.96, C=[[10, -1]], l=[10], lb=[2, -50], ub=[50, 50])


def hs35(fixed: bool = False) -> Published:
    """HS35, and HS35MOD, in which x_2 is fixed."""
    H, g, C, u = [[4, 2, 2], [2, 4, 0], [2, 0, 2]], [-8, -6, -4], [[1, 1, 2]], [3]
    if fixed:
        return _qp(H, g, 9, 0.25, C=C, u=u, lb=[0, 0.5, 0], ub=[INF, 0.5, INF])
    return _qp(H, g, 9, 1 / 9, C=C, u=u, lb=[0, 0, 0])


def _hs5x(first, row, right, optimum, bound=None) -> Published:
    H, g, c = _squares([(first, 0), ({2: 1, 3: 1}, 2), ({4: 1}, 1), ({5: 1}, 1)], 5)
    A = _rows([row, {3: 1, 4: 1, 5: -2}, {2: 1, 5: -1}], 5)
    box = {} if bound is None else {"lb": [-bound] * 5, "ub": [bound] * 5}
    return _qp(H, g, c, optimum, A=A, b=[right, 0, 0], **box)


def hs51() -> Published:
    return _hs5x({1: 1, 2: -1}, {1: 1, 2: 3}, 4, 0.0)


def hs52() -> Published:
    return _hs5x({1: 4, 2: -1}, {1: 1, 2: 3}, 0, 1859 / 349)


def hs53() -> Published:
    return _hs5x({1: 1, 2: -1}, {1: 1, 2: 3}, 0, 176 / 43, bound=10)


def hs76() -> Published:
    H = [[2, 0, -1, 0], [0, 1, 0, 0], [-1, 0, 2, 1], [0, 0, 1, 1]]
    C = [[1, 2, 1, 1], [3, 1, 2, -1], [0, 1, 4, 0]]
    return _qp(H, [-1, -3, 1, -1], 0, -103 / 22, C=C, l=[-INF, -INF, 1.5], u=[5, 4, INF], lb=[0] * 4)


def hs118() -> Published:
    quadratic, linear = [2e-4, 2e-4, 3e-4], [2.3, 1.7, 2.2]
    ramps = [{3 * j + i: 1, 3 * j + i - 3: -1} for j in range(1, 5) for i in (1, 2, 3)]
    sums = [{3 * k + i: 1 for i in (1, 2, 3)} for k in range(5)]
    lower = [-7] * 12 + [60, 50, 70, 85, 100]
    upper = [6, 7, 6] * 4 + [INF] * 5
    lb, ub = [8, 43, 3] + [0] * 12, [21, 57, 16] + [90, 120, 60] * 4
    H = torch.diag(torch.tensor(quadratic * 5))
    return _qp(H, linear * 5, 0, 664.8204500, C=_rows(ramps + sums, 15), l=lower, u=upper, lb=lb, ub=ub)


def hs268() -> Published:
    D = [
        [10197, -12454, -1013, 1948, 329],
        [-12454, 20909, -1733, -4914, -186],
        [-1013, -1733, 1755, 1089, -174],
        [1948, -4914, 1089, 1515, -22],
        [329, -186, -174, -22, 27],
    ]
    B = [-9170, 17099, -2271, -4336, -43]
    C = [[-1, -1, -1, -1, -1], [10, 10, -3, 5, 4], [-8, 1, -2, -5, 3], [8, -1, 2, 5, -3], [-4, -2, 3, -5, 1]]
    H, g = 2 * torch.tensor(D, dtype=torch.float64), -2 * torch.tensor(B, dtype=torch.float64)
    return _qp(H, g, 14463, 0.0, C=C, l=[-5, 20, -40, 11, -30])


def genhs28() -> Published:
    H, g, c = _squares([({i: 1, i + 1: 1}, 0) for i in range(1, 10)], 10)
    A = _rows([{i: 1, i + 1: 2, i + 2: 3} for i in range(1, 9)], 10)
    return _qp(H, g, c, 0.927173694, A=A, b=[1] * 8)


def lotschd() -> Published:
    """Variables T_1, U_1, ..., T_6, U_6."""
    X, R = [1.502, 1.126, 0.815, 1.268, 1.502, 0.740], [1.8, 3.2, 6.1, 3.2, 1.8, 7.4]
    others = [[], [2, 3], [3, 1, 2, 4, 5, 6], [4, 1, 5, 6], [1], [1, 2, 3, 4, 5]]
    rows = []
    for i in range(6):
        row = {2 * i + 1: R[i], 2 * i + 2: -1.0}
        for j in others[i]:
            for index in (2 * j - 1, 2 * j):
                row[index] = row.get(index, 0.0) - 1.0
        rows.append(row)
    rows.append({index: 1.0 for index in range(1, 13)})
    H, g, c = _squares([({2 * i + 1: X[i]}, 0) for i in range(6)], 12)
    return _qp(H, g, c, 2398.41590, A=_rows(rows, 12), b=[11, 3, 20, 17, 9, 20, 126.1], lb=[0] * 12)


def tame() -> Published:
    return _qp([[2, -2], [-2, 2]], [0, 0], 0, 0.0, A=[[1, 1]], b=[1], lb=[0, 0])


def zecevic2() -> Published:
    return _qp([[0, 0], [0, 4]], [-2, -3], 0, -4.125, C=[[1, 1], [1, 4]], u=[2, 4], lb=[0, 0], ub=[10, 10])


def qptest() -> Published:
    """Without its constant of 4, as its optimum is published."""
    return _qp(
        [[8, 2], [2, 10]], [1.5, -2], 0, 4.371875, C=[[2, 1], [-1, 2]], l=[2, -INF], u=[INF, 6], lb=[0, 0], ub=[20, INF]
    )


PROBLEMS = {
    "HS21": hs21(),
    "HS35": hs35(),
    "HS35MOD": hs35(fixed=True),
    "HS51": hs51(),
    "HS52": hs52(),
    "HS53": hs53(),
    "HS76": hs76(),
    "HS118": hs118(),
    "HS268": hs268(),
    "GENHS28": genhs28(),
    "LOTSCHD": lotschd(),
    "TAME": tame(),
    "ZECEVIC2": zecevic2(),
    "QPTEST": qptest(),
}
