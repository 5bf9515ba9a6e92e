"""Families of QPs, seeded: the arguments of solve_qp by name, in float64."""

import torch
from torch import Tensor

Arguments = dict[str, Tensor | None]


def _random(seed: int):
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator, dtype=torch.float64)

    return normal, uniform


def times(M: Tensor, x: Tensor) -> Tensor:
    """``M x`` of each problem: [(B,) k, n], [B, n] -> [B, k]."""
    return (M @ x.unsqueeze(-1)).squeeze(-1)


def _hessian(normal, B: int, n: int) -> Tensor:
    M = normal(B, n, n)
    return M @ M.mT / n + 1e-2 * torch.eye(n, dtype=torch.float64)


def feasible(B: int, n: int, seed: int = 0, two_sided: bool = False, bounds: bool = False) -> Arguments:
    """Random, with a known feasible point: n / 4 equalities and n inequalities."""
    normal, uniform = _random(seed)
    H, A, C, x = _hessian(normal, B, n), normal(B, n // 4, n), normal(B, n, n), normal(B, n)
    u = times(C, x) + uniform(B, n)
    args = {"H": H, "g": normal(B, n), "A": A, "b": times(A, x), "C": C, "u": u}
    if two_sided:
        args["l"] = u - 1 - 2 * uniform(B, n)
    if bounds:
        args |= {"lb": x - uniform(B, n), "ub": x + uniform(B, n)}
    return args


def lp(B: int, n: int, seed: int = 0) -> Arguments:
    """A bounded LP with 3n / 2 inequalities."""
    normal, uniform = _random(seed)
    C, x = normal(B, 3 * n // 2, n), uniform(B, n)
    box = {"lb": torch.zeros(n, dtype=torch.float64), "ub": torch.full((n,), 2.0, dtype=torch.float64)}
    return {"H": None, "g": normal(B, n), "C": C, "u": times(C, x) + 0.1 * uniform(B, 3 * n // 2), **box}


def overdetermined(B: int, n: int, seed: int = 0) -> Arguments:
    """More equalities than unknowns, and inequalities."""
    normal, _ = _random(seed)
    k = n + max(1, n // 4)
    return {
        "H": _hessian(normal, B, n),
        "g": normal(B, n),
        "A": normal(B, k, n),
        "b": normal(B, k),
        "C": normal(B, n, n),
        "u": normal(B, n),
    }


def sudoku_lp(B: int, seed: int = 0) -> Arguments:
    """The layer of a 4 x 4 Sudoku before it has learned: 40 random equalities with A >= 0 and x >= 0, no H."""
    _, uniform = _random(seed)
    given = (uniform(B, 64) < 0.1).double()
    A, b = uniform(40, 64), torch.ones(40, dtype=torch.float64)
    return {"H": None, "g": -given, "A": A, "b": b, "lb": torch.zeros(64, dtype=torch.float64)}


def positive_equalities(B: int, n: int, k: int, seed: int = 0, H: bool = False) -> Arguments:
    """``A x = b`` with A > 0 and x >= 0, one side of b negative: no x, whatever small change is made."""
    normal, uniform = _random(seed)
    b = 0.5 + uniform(B, k)
    b[:, 0] = -1.0
    lb = torch.zeros(B, n, dtype=torch.float64)
    hessian = _hessian(normal, B, n) if H else None
    return {"H": hessian, "g": uniform(B, n), "A": 0.1 + uniform(B, k, n), "b": b, "lb": lb}


def excluding_halfspaces(B: int, n: int, extra: int = 4, seed: int = 0) -> Arguments:
    """n + 1 half-spaces that surround the origin and look away from it, and others: no x, whatever small change."""
    normal, uniform = _random(seed)
    weights = 0.5 + uniform(B, n + 1)
    C = normal(B, n + 1, n)
    C[:, -1] = -(weights[:, :-1, None] * C[:, :-1]).sum(1) / weights[:, -1:]
    C = torch.cat([C, normal(B, extra, n)], 1)
    u = torch.cat([-0.2 - uniform(B, n + 1), 2 + normal(B, extra)], 1)
    return {"H": _hessian(normal, B, n), "g": normal(B, n), "C": C, "u": u}


def excluding_everywhere(B: int, n: int, m: int, seed: int = 0) -> Arguments:
    """m half-spaces that look away from the origin, all of which are shifted, at a strong cost."""
    normal, uniform = _random(seed)
    C = normal(B, m, n)
    C = C / C.norm(dim=-1, keepdim=True)
    return {"H": _hessian(normal, B, n), "g": 2 * normal(B, n), "C": C, "u": -0.2 - 0.2 * uniform(B, m)}


def opposite_halfspaces(B: int, n: int, pairs: int, seed: int = 0) -> Arguments:
    """Pairs of parallel half-spaces that exclude each other."""
    normal, uniform = _random(seed)
    G, x = normal(B, pairs, n), normal(B, n)
    C = torch.cat([G, -G], 1)
    return {"H": _hessian(normal, B, n), "g": normal(B, n), "C": C, "u": times(C, x) - uniform(B, 2 * pairs)}


def shared(args: Arguments, *names: str) -> Arguments:
    """The same problems, the named arguments those of the first problem for all."""
    return {k: v[0] if k in names and v is not None else v for k, v in args.items()}
