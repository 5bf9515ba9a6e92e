"""The table of numbers: C++ has the same ones, and each of them matters."""

import re

import families as f
import hard
import pytest
import reported
import torch
from helpers import OPTIONS, as_rows

from qplayer_gpu.kernels import numbers, reference
from qplayer_gpu.kernels.interface import Vectors
from qplayer_gpu.kernels.reference import admm

NAMES = [name for name, value in vars(numbers).items() if name.isupper() and isinstance(value, (int, float))]
# Numbers that no change makes a difference to, in the problems below, with the reason.
UNSEEN = {
    "RUNNING": "a code",
    "ABSENT_SIDE": "sides beyond it are taken away before the kernels",
    "ADJOINT_ACCURACY": "accuracy beyond what is compared here",
    "COMPACT_SHARE": "speed alone",
    "DUAL_ROUNDING": "a guard, for multipliers larger than these",
    "HARD_PRESSING": "a guard: hard rows press on these shifts plainly, or not at all",
    "INNER_FLOOR": "eta_in or rounding ends the loop before",
    "MU_LEAST": "a guard: mu stays above it",
    "START_RESIDUAL": "of warm starts, whose steps test_warm.py compares",
    "HOST_CHUNK": "speed alone",
    "BLOCK_CHUNK": "memory, which test_blocks.py compares",
    "VECTORS_OF_X": "memory, which test_blocks.py compares",
    "VECTORS_OF_ROWS": "memory, which test_blocks.py compares",
}


def test_cpp_has_the_same_numbers():
    lines = dict(re.findall(r"constexpr \w+ (\w+) = (.*);", numbers.cpp()))
    assert list(lines) == NAMES
    assert {name: float(text) for name, text in lines.items()} == {name: getattr(numbers, name) for name in NAMES}
    assert "SOLVED_CLOSEST_FEASIBLE = 1" in numbers.cpp()


def with_small(args, size):
    """The same with one more pair of rows that exclude each other by so much."""
    n = args["g"].shape[-1]
    row = torch.ones(len(args["g"]), 1, n).double() / n
    zero = torch.zeros(len(args["g"]), 1).double()
    C, u = torch.cat([args["C"], row, -row], 1), torch.cat([args["u"], zero, zero - size], 1)
    return args | {"C": C, "u": u}


def near(misses, length=1.0, cost=1.0, n=2):
    """Two opposed rows, the second of another length, that miss each other by so much."""
    ones = torch.ones(len(misses), 1, n).double()
    u = torch.stack([torch.zeros(len(misses)).double(), -length * torch.tensor(misses).double()], -1)
    C = torch.cat([ones, -length * ones], 1)
    return {"H": torch.eye(n).double(), "g": -cost * ones[:, 0] * torch.arange(1, n + 1), "C": C, "u": u}


def bent(least):
    """H with one eigenvalue of each size in ``least``."""
    normal = torch.randn(2, len(least), 5, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    Q, values = torch.linalg.qr(normal[0]).Q, torch.linspace(0.2, 1, 5).double().repeat(len(least), 1)
    values[:, 0] = torch.tensor(least).double()
    return {"H": (Q * values.unsqueeze(-2)) @ Q.mT, "g": normal[1, :, 0]}


def beside_short_rows(sizes):
    """Feasible problems with one more row, that is nearly zero."""
    args = f.feasible(len(sizes), 5)
    row = torch.tensor(sizes).double().reshape(-1, 1, 1).expand(-1, 1, 5)
    return args | {"C": torch.cat([args["C"], row], 1), "u": torch.cat([args["u"], -row[:, 0, :1]], 1)}


PROBLEMS = {
    "near": near([1e-10, 1e-9, 1.5e-9, 3e-9, 1e-8], cost=100.0),
    "near, long": near([3e-10, 9e-10, 1.5e-9, 1e-8], length=1e3),
    "bent": bent([-1e-8, -1e-7, -3e-7, -1e-6]),
    "flat": bent([1e-8, 1e-12, 1e-14, 0.0]),
    "short rows": beside_short_rows([1e-14, 1e-12, 1e-10, 1e-8]),
    "hard and apart": near([1e-10, 1e-8, 1.0]) | {"w_in": float("inf")},
    "missed, lp": reported.missed_halfspaces(16, 4, seed=1, lp=True),
    "missed bounds": reported.missed_bounds(10, 4, seed=4),
    "parallel": reported.parallel(6, 4, seed=0),
    "feasible": f.feasible(6, 9, two_sided=True, bounds=True),
    "lp": f.lp(6, 8),
    "overdetermined": f.overdetermined(4, 6),
    "positive": f.positive_equalities(4, 6, 4),
    "excluding": f.excluding_halfspaces(6, 7),
    "opposite": f.opposite_halfspaces(4, 8, 12),
    "sudoku": f.sudoku_lp(2),
    "ill-scaled": hard.ill_scaled(6, 8, decades=6),
    "degenerate": hard.degenerate(4, 7),
    "netlib-like": hard.netlib_like(4, 15),
    "rescaled": hard.rescaled(f.lp(6, 9, 15), 15, decades=8),
    "unbounded": hard.unbounded(6, 6, 3),
    "demand": hard.demand(4, 5) | {"w_box": float("inf")},
    "budget": hard.budget(4, 6) | {"w_eq": float("inf")},
    "border": with_small(f.feasible(4, 6), 3e-8),
}


def seen():
    """What the reference finds, one after the other: statuses, steps, answers, adjoint vectors."""
    for args in PROBLEMS.values():
        rows = as_rows(args)
        for mixed in (False, True):
            answer = reference.forward(rows, OPTIONS._replace(mixed=mixed, max_iter=300))
            point = Vectors(*(t.nan_to_num() for t in answer.point))
            grad = Vectors(*map(torch.ones_like, point))
            yield from (answer.status, answer.iterations, *point)
            other = admm.forward(rows, OPTIONS._replace(mixed=mixed, max_iter=200, eps_abs=1e-4))
            yield from (other.status, other.iterations, *(t.nan_to_num() for t in other.point))
        yield from reference.adjoint(rows, point, grad, OPTIONS)


@pytest.fixture(scope="module")
def usual():
    """The same with the numbers as they are."""
    return list(seen())


def differ(these, others):
    """Whether a status or a number of steps is another, or a vector by more than rounding errors; ends at the first."""
    return any(
        not torch.equal(a, b) if not a.is_floating_point() else (a - b).norm() > 1e-7 * (1 + b.norm())
        for a, b in zip(these, others, strict=True)
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in NAMES if name not in UNSEEN])
def test_a_change_is_seen(name, usual, monkeypatch):
    value = getattr(numbers, name)
    changes = (value * 2, value // 2, 1) if isinstance(value, int) else (value * t for t in (0.1, 10, 1e-4, 1e4))
    for changed in changes:
        monkeypatch.setattr(numbers, name, changed)
        if differ(seen(), usual):
            return
    pytest.fail(f"{name} makes no difference")
