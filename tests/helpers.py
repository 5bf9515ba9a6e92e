"""What several test modules share: problems as rows, cases, and gradients against central differences."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from unittest.mock import patch

import families as f
import hard
import published
import torch

import qplayer_gpu as qp
from qplayer_gpu import direct, method
from qplayer_gpu.kernels import numbers
from qplayer_gpu.kernels.reference.admm import REFERENCE
from qplayer_gpu.problem import QP, rows_of, sizes_of

OPTIONS = qp.Settings().options(torch.float64, torch.device("cpu"))
OTHER_OPTIONS = (
    {"equilibrate": False},
    {"closest_feasible": False},
    {"eps_abs": 1e-12, "eps_rel": 1e-9},
    {"max_iter": 3},  # before the first problem ends: which of them do next is for rounding errors to decide
    {"max_iter": 0},
    {"mu_in": 1e-3, "rho": 1e-4},
)


def problem(args):
    """The arguments of a call as the library holds them."""
    return QP(**{name: args.get(name) for name in QP._fields})


def as_rows(args):
    """The rows of the arguments of a call."""
    return rows_of(problem(args), sizes_of(problem(args)))[0]


def written_numbers(folder):
    """A header with the numbers of the method, to be put before a C++ source."""
    path = folder / "numbers.h"
    path.write_text(numbers.cpp())
    return path


def leaves_of(args):
    """The same arguments, its tensors as leaves that want a gradient."""
    return {k: v.clone().requires_grad_() if isinstance(v, torch.Tensor) else v for k, v in args.items()}


EXACT = qp.Settings(eps_abs=1e-11)
ALL = ("x", "y", "z", "z_box", "s_eq", "s_in", "s_box")
STEP = 1e-6
# Central differences are good to about STEP^2 and (error of the answer) / STEP = 1e-6; of the size of the gradient.
ACCURACY = 1e-5

FEASIBLE = f.feasible(3, 6, two_sided=True, bounds=True)
LP = f.lp(3, 5)
OVERDETERMINED = f.overdetermined(3, 4)
POSITIVE_LP = f.positive_equalities(3, 6, 4)
POSITIVE_QP = f.positive_equalities(3, 6, 4, H=True)
EXCLUDING = f.excluding_halfspaces(3, 5)
PINNED = f.excluding_everywhere(3, 4, 14)  # the multipliers of half of the shifted rows are 0, for their signs
ONLY_EQUALITIES = {k: v for k, v in OVERDETERMINED.items() if k not in ("C", "u")}
CASES = {
    "feasible": (FEASIBLE, qp.Status.SOLVED, ALL),
    "lp": (LP, qp.Status.SOLVED, ALL),
    "overdetermined": (OVERDETERMINED, qp.Status.SOLVED_CLOSEST_FEASIBLE, ALL),
    "only-equalities": (ONLY_EQUALITIES, qp.Status.SOLVED_CLOSEST_FEASIBLE, ALL),
    "positive-lp": (POSITIVE_LP, qp.Status.SOLVED_CLOSEST_FEASIBLE, ALL),
    "positive-qp": (POSITIVE_QP, qp.Status.SOLVED_CLOSEST_FEASIBLE, ALL),
    "excluding": (EXCLUDING, qp.Status.SOLVED_CLOSEST_FEASIBLE, ALL),
    "pinned": (PINNED, qp.Status.SOLVED_CLOSEST_FEASIBLE, ALL),
}


def one_matrix(args):
    """The same with all matrices and sides of the first problem, shared; only g stays batched."""
    return f.shared(args, *(k for k, v in args.items() if k != "g" and v is not None and v.dim() == 2 + (k in "HAC")))


@contextmanager
def admm_paying() -> Iterator[None]:
    """Has the method "auto" begin with ADMM, by the batched torch operations, as if that paid here for all problems."""
    with (
        patch.object(method, "pays", lambda rows: True),
        patch.object(method, "steps_of", lambda rows, backend: REFERENCE),
        patch.object(direct, "solve", lambda *arguments: None),
    ):
        yield


def parts_of(solution):
    """What a solution holds, by its names."""
    return {field.name: getattr(solution, field.name) for field in fields(solution)}


def check(args, status, outputs, settings=EXACT, frozen=()):
    """Compares gradients of a random loss of the outputs with central differences; not those of frozen arguments."""
    weights = {
        k: torch.randn_like(v) for k, v in parts_of(qp.solve_qp(**args, settings=settings)).items() if k in outputs
    }

    def loss(problem):
        sol = qp.solve_qp(**problem, settings=settings)
        assert (sol.status == status).all()
        return sum((weights[k] * getattr(sol, k)).sum() for k in outputs)

    leaves = leaves_of(args)
    loss(leaves).backward()
    for name, leaf in leaves.items():
        if not isinstance(leaf, torch.Tensor) or name in frozen:
            continue
        gradient = leaf.grad
        assert gradient.shape == leaf.shape
        size = gradient.norm()
        for direction in (gradient, torch.randn_like(leaf)):
            d = direction + direction.mT if name == "H" else direction
            d = d / (d.norm() + (d.norm() == 0))
            with torch.no_grad():
                ahead, behind = (loss({**args, name: args[name] + step * d}) for step in (STEP, -STEP))
            difference = (ahead - behind) / (2 * STEP)
            assert abs(difference - (gradient * d).sum()) <= ACCURACY * max(size, 0.1), name


KERNEL_CASES = {
    "feasible-1": lambda: f.feasible(4, 1),
    "feasible-7": lambda: f.feasible(4, 7),
    "feasible-8": lambda: f.feasible(4, 8, two_sided=True),
    "feasible-17-bounds": lambda: f.feasible(8, 17, two_sided=True, bounds=True),
    "feasible-64": lambda: f.feasible(2, 64),
    "feasible-130": lambda: f.feasible(1, 130),
    "shared-matrices": lambda: f.shared({**f.feasible(4, 9), "u": torch.full((4, 9), 50.0).double()}, "H", "C"),
    "lp-1": lambda: f.lp(4, 1),
    "lp-20": lambda: f.lp(4, 20),
    "overdetermined-1": lambda: f.overdetermined(4, 1),
    "overdetermined-32": lambda: f.overdetermined(4, 32),
    "sudoku-lp": lambda: f.sudoku_lp(3),
    "positive-equalities": lambda: f.positive_equalities(4, 9, 5),
    "positive-equalities-qp": lambda: f.positive_equalities(4, 9, 5, H=True),
    "excluding-halfspaces": lambda: f.excluding_halfspaces(6, 7),
    "opposite-halfspaces": lambda: f.opposite_halfspaces(3, 12, 20),
    "ill-scaled": lambda: hard.ill_scaled(4, 12),
    "degenerate": lambda: hard.degenerate(4, 9),
    "netlib-like": lambda: hard.netlib_like(3, 30),
    "netlib-like-qp": lambda: hard.netlib_like(3, 30, little=0.1),
}
PUBLISHED = ["hs21", "hs35", "hs51", "hs52", "hs53", "hs76", "hs118", "hs268", "genhs28", "lotschd", "tame"]
KERNEL_CASES |= {name: lambda name=name: getattr(published, name)()[0] for name in PUBLISHED}
HARD_ROWS = {
    "box": hard.demand(3, 5) | {"w_box": math.inf},
    "equalities": hard.budget(3, 6) | {"w_eq": math.inf, "w_in": torch.tensor([1.0, 3.0]).double()},
    "inequalities": f.overdetermined(3, 6) | {"w_in": math.inf},
    "infeasible": f.excluding_halfspaces(3, 4) | {"w_in": math.inf},
    "feasible": f.feasible(3, 9, bounds=True) | {"w_box": math.inf},
}
MANY_OPTIMA = ("netlib-like",)  # a face of the polytope: the same objective, but not the same x
UNKNOWN_GRADIENTS = ("degenerate", "netlib-like", "netlib-like-qp")  # a singular system, solved up to rounding errors
