"""Kinds of problems from public reports about QP solvers, and from the models that people build on them."""

import families as f
import torch
from families import Arguments, _random, times

INF = float("inf")
TOLERANCE = 1e-9  # that "near" and "next to" mean


def _spread(uniform, B, low, high):
    """[B] numbers whose logarithms lie evenly between two exponents of ten."""
    return 10 ** (low + (high - low) * uniform(B))


def _spectral(normal, uniform, B, n, low):
    """H [B, n, n] with eigenvalues from 10^low to 1."""
    Q = torch.linalg.qr(normal(B, n, n)).Q
    return (Q * 10 ** (low * uniform(B, 1, n))) @ Q.mT


def large_cost(B: int, n: int, seed: int) -> Arguments:
    """A strictly convex QP whose g is up to a million."""
    normal, uniform = _random(seed)
    return {"H": _spectral(normal, uniform, B, n, -1), "g": normal(B, n) * _spread(uniform, B, 0, 6).unsqueeze(-1)}


def flat(B: int, n: int, seed: int) -> Arguments:
    """A QP with curvatures down to 1e-6."""
    normal, uniform = _random(seed)
    return {"H": _spectral(normal, uniform, B, n, -6), "g": normal(B, n), "lb": torch.full((n,), -1e3).double()}


def _missing(normal, uniform, B, n):
    """[B, 1, n] a row, [B, 1] its side, [B] a length, and [B] 0.3 to 10 tolerances."""
    return normal(B, 1, n), normal(B, 1), _spread(uniform, B, -1, 2), TOLERANCE * _spread(uniform, B, -0.5, 1)


def missed_equalities(B: int, n: int, seed: int) -> Arguments:
    """Two parallel equalities of other lengths that miss each other by about the tolerance."""
    normal, uniform = _random(seed)
    row, side, length, miss = _missing(normal, uniform, B, n)
    A, b = torch.cat([row, row * length.reshape(-1, 1, 1)], 1), torch.cat([side, side * length.unsqueeze(-1)], 1)
    return {
        "H": _spectral(normal, uniform, B, n, -1),
        "g": normal(B, n),
        "A": A,
        "b": b + miss.unsqueeze(-1) * normal(B, 2),
    }


def missed_halfspaces(B: int, n: int, seed: int, lp: bool = False) -> Arguments:
    """Two opposed rows of other lengths that miss each other by about the tolerance."""
    normal, uniform = _random(seed)
    row, side, length, miss = _missing(normal, uniform, B, n)
    long = length.unsqueeze(-1)
    C, u = torch.cat([row, -row * long.unsqueeze(-1)], 1), torch.cat([side, -(side + miss.unsqueeze(-1)) * long], 1)
    H, box = (None, 1e3) if lp else (_spectral(normal, uniform, B, n, -1), INF)
    return {
        "H": H,
        "g": normal(B, n),
        "C": C,
        "u": u,
        "lb": torch.full((n,), -box).double(),
        "ub": torch.full((n,), box).double(),
    }


def missed_bounds(B: int, n: int, seed: int) -> Arguments:
    """A row that asks of x a little more than its bounds allow."""
    normal, uniform = _random(seed)
    row, _, _, miss = _missing(normal, uniform, B, n)
    return {
        "H": _spectral(normal, uniform, B, n, -1),
        "g": normal(B, n),
        "C": row,
        "l": row.abs().sum(-1) + miss.unsqueeze(-1),
        "lb": -torch.ones(n).double(),
        "ub": torch.ones(n).double(),
    }


def transport(B: int, n: int, seed: int) -> Arguments:
    """A plan between marginals that were computed in float32, with a little entropy-like curvature."""
    _, uniform = _random(seed)
    k = 2 + n % 4
    A = torch.zeros(2 * k, k * k).double()
    for i in range(k):
        A[i, i * k : (i + 1) * k] = 1
        A[k + i, i::k] = 1
    b = torch.cat([uniform(B, k).float().softmax(-1), uniform(B, k).float().softmax(-1)], -1).double()
    return {
        "H": 0.1 * torch.eye(k * k).double(),
        "g": uniform(B, k * k),
        "A": A,
        "b": b,
        "lb": torch.zeros(k * k).double(),
    }


def repeated(B: int, n: int, seed: int) -> Arguments:
    """Equalities of which each is there three times, with sides that differ by rounding."""
    args = f.feasible(B, n, seed)
    A = torch.cat([args["A"]] * 3, 1)
    return args | {"A": A, "b": times(A, torch.ones(B, n).double()) * (1 + 1e-16 * torch.arange(A.shape[1]))}


def large_data(B: int, n: int, seed: int) -> Arguments:
    """A QP in small units: all of g and the sides times 1e9."""
    args = f.feasible(B, n, seed)
    return {k: t * 1e9 if k in ("g", "b", "u", "l") else t for k, t in args.items()}


def heavy(B: int, n: int, seed: int) -> Arguments:
    """A QP whose cost is times 1e7, and so are its multipliers."""
    args = f.feasible(B, n, seed)
    return {k: t * 1e7 if k in ("H", "g") else t for k, t in args.items()}


def parallel(B: int, n: int, seed: int) -> Arguments:
    """Two inequalities at angles of 1e-3 to 1e-6."""
    normal, uniform = _random(seed)
    row, side = normal(B, 1, n + 1), normal(B, 1)
    other = row + _spread(uniform, B, -6, -3).reshape(-1, 1, 1) * normal(B, 1, n + 1)
    return {
        "H": torch.eye(n + 1).double(),
        "g": -3 * row[:, 0],
        "C": torch.cat([row, other], 1),
        "u": side.repeat(1, 2),
    }


def penalized(B: int, n: int, seed: int) -> Arguments:
    """Rows made soft by slacks whose penalties are 1e2 to 1e12."""
    normal, uniform = _random(seed)
    weight = _spread(uniform, B, 2, 12).reshape(-1, 1, 1)
    H = torch.zeros(B, 2 * n, 2 * n).double()
    H[:, :n, :n], H[:, n:, n:] = torch.eye(n), weight * torch.eye(n)
    C = torch.cat([normal(B, n, n), -torch.eye(n).double().expand(B, n, n)], -1)
    lb = torch.cat([-torch.ones(n), torch.zeros(n)]).double()
    return {"H": H, "g": torch.cat([normal(B, n), torch.zeros(B, n).double()], -1), "C": C, "u": normal(B, n), "lb": lb}


def weighted(B: int, n: int, seed: int) -> Arguments:
    """Rows that exclude each other, with weights of 1e-3 to 1e3."""
    _, uniform = _random(seed)
    args = f.overdetermined(B, n, seed)
    return args | {"w_eq": 10 ** (6 * uniform(*args["b"].shape) - 3)}


def short_rows(B: int, n: int, seed: int) -> Arguments:
    """Feasible problems with one more row, of entries of 1e-14 to 1e-6."""
    normal, uniform = _random(seed)
    args = f.feasible(B, n, seed)
    row = _spread(uniform, B, -14, -6).reshape(-1, 1, 1) * normal(B, 1, n)
    u = torch.cat([args["u"], 0.5 + uniform(B, 1)], 1)
    return args | {"C": torch.cat([args["C"], row], 1), "u": u} | ({"l": None} if "l" in args else {})


def half_rank(B: int, n: int, seed: int) -> Arguments:
    """As many equalities as unknowns, of half that rank, that exclude each other."""
    normal, uniform = _random(seed)
    n += 1
    A = normal(B, n, max(1, n // 2)) @ normal(B, max(1, n // 2), n)
    return {"H": _spectral(normal, uniform, B, n, -1), "g": normal(B, n), "A": A, "b": normal(B, n)}


def gram(B: int, n: int, seed: int, box: float = 1.0) -> Arguments:
    """H = J J' computed in float32, of a third of its rank."""
    normal, _ = _random(seed)
    J = normal(B, n, max(1, n // 3)).float()
    ones = torch.ones(n).double()
    return {"H": (J @ J.mT).double(), "g": normal(B, n), "lb": -box * ones, "ub": box * ones}


def indefinite(B: int, n: int, seed: int) -> Arguments:
    """H with an eigenvalue of -0.01 to -0.1, without constraints."""
    normal, uniform = _random(seed)
    Q = torch.linalg.qr(normal(B, n + 1, n + 1)).Q
    values = 0.1 + 0.9 * uniform(B, n + 1)
    values[:, 0] = -0.01 - 0.09 * uniform(B)
    return {"H": (Q * values.unsqueeze(-2)) @ Q.mT, "g": normal(B, n + 1)}


def at_rest(B: int, n: int, seed: int) -> Arguments:
    """A QP whose optimum is the start."""
    args = f.feasible(B, n, seed)
    return {"H": args["H"], "g": 0 * args["g"], "C": args["C"], "u": args["u"].abs()}


def simplex(B: int, n: int, seed: int, scale: float = 1.0) -> Arguments:
    """The projection onto the simplex."""
    normal, _ = _random(seed)
    return {
        "H": torch.eye(n).double(),
        "g": -scale * normal(B, n),
        "A": torch.ones(1, n).double(),
        "b": torch.ones(1).double(),
        "lb": torch.zeros(n).double(),
    }


def nonnegative(B: int, n: int, seed: int) -> Arguments:
    """Least squares with x >= 0, from fewer samples than unknowns."""
    normal, _ = _random(seed)
    J, y = normal(B, 1 + n // 2, n), normal(B, 1 + n // 2)
    return {"H": J.mT @ J, "g": -times(J.mT, y), "lb": torch.zeros(n).double(), "ub": torch.full((n,), 1e3).double()}


def support_vectors(B: int, n: int, seed: int) -> Arguments:
    """The dual of a support vector machine with a kernel of rank 2."""
    normal, uniform = _random(seed)
    n += 2
    X, y = normal(B, n, 2), torch.where(torch.arange(n) % 2 == 0, 1.0, -1.0).double()
    Z = X * y.unsqueeze(-1)
    return {
        "H": Z @ Z.mT,
        "g": -torch.ones(B, n).double(),
        "A": y.unsqueeze(0),
        "b": torch.zeros(1).double(),
        "lb": torch.zeros(n).double(),
        "ub": torch.ones(n).double() * (0.1 + uniform(B, 1)),
    }


def lasso(B: int, n: int, seed: int) -> Arguments:
    """Least squares with a penalty of |x|_1, in variables x and t with -t <= x <= t."""
    normal, uniform = _random(seed)
    J, y = normal(B, n + 2, n), normal(B, n + 2)
    H = torch.zeros(B, 2 * n, 2 * n).double()
    H[:, :n, :n] = J.mT @ J
    eye = torch.eye(n).double()
    C = torch.cat([torch.cat([eye, -eye], -1), torch.cat([-eye, -eye], -1)])
    return {
        "H": H,
        "g": torch.cat([-times(J.mT, y), uniform(B, 1).expand(B, n)], -1),
        "C": C,
        "u": torch.zeros(2 * n).double(),
    }


def isotonic(B: int, n: int, seed: int) -> Arguments:
    """The closest nondecreasing sequence."""
    normal, _ = _random(seed)
    n += 1
    D = torch.eye(n).double()[:-1] - torch.eye(n).double()[1:]
    return {"H": torch.eye(n).double(), "g": -normal(B, n).cumsum(-1), "C": D, "u": torch.zeros(n - 1).double()}


def minimax(B: int, n: int, seed: int) -> Arguments:
    """The LP of the least largest residual of an overdetermined system."""
    normal, _ = _random(seed)
    k = n + 3
    J, y, ones = normal(B, k, n), normal(B, k), torch.ones(B, k, 1).double()
    C = torch.cat([torch.cat([J, -ones], -1), torch.cat([-J, -ones], -1)], 1)
    g = torch.zeros(n + 1).double()
    g[-1] = 1
    return {"H": None, "g": g, "C": C, "u": torch.cat([y, -y], -1)}


def control(B: int, n: int, seed: int) -> Arguments:
    """The inputs of a double integrator over n steps, with bounded inputs and speed."""
    normal, _ = _random(seed)
    k = torch.arange(n)
    speed = torch.tril(torch.ones(n, n)).double()
    place = torch.tril((k.unsqueeze(-1) - k + 0.5).clamp(min=0)).double()
    start, moving = normal(B, 1), 0.3 * normal(B, 1).clamp(-1, 1)
    drift = start + moving * (k + 1)
    ones = torch.ones(n).double()
    H = place.mT @ place + 0.1 * torch.eye(n).double()
    return {
        "H": H,
        "g": drift @ place,
        "C": speed,
        "l": -1 - moving.expand(B, n),
        "u": 1 - moving.expand(B, n),
        "lb": -ones,
        "ub": ones,
    }


def quantile(B: int, n: int, seed: int) -> Arguments:
    """The LP of quantile regression, from residuals of both signs."""
    normal, uniform = _random(seed)
    k, d = n + 2, 2
    J, y, q = normal(B, k, d), normal(B, k), 0.2 + 0.6 * uniform(B, 1)
    eye = torch.eye(k).double().expand(B, k, k)
    g = torch.cat([torch.zeros(B, d).double(), q.expand(B, k), (1 - q).expand(B, k)], -1)
    lb = torch.cat([torch.full((d,), -INF), torch.zeros(2 * k)]).double()
    return {"H": None, "g": g, "A": torch.cat([J, eye, -eye], -1), "b": y, "lb": lb}
