"""Forward: problem + settings -> answer of the kernels."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from .errors import ProblemError
from .kernels.interface import Answer, Kernels, Options, Start, Status
from .problem import Problem, Sizes
from .solution import Solution


def solve(problem: Problem, options: Options, kernels: Kernels, start: Start | None) -> Answer:
    """Solves the rows; a problem with crossed sides is at best the closest feasible one."""
    answer = kernels.forward(problem.rows, options, start)
    closest = Status.SOLVED_CLOSEST_FEASIBLE if options.closest_feasible else Status.INFEASIBLE
    status = torch.where((answer.status == Status.SOLVED) & problem.crossed, int(closest), answer.status)
    return replace(answer, status=status)


def start_from(solution: Solution, sizes: Sizes, device: torch.device) -> Start:
    """A warm start: the vectors of a previous answer, zero where it has none.

    Raises:
        ProblemError: the answer is to problems of another shape.
    """
    x, z, s = (
        torch.cat([part.detach().double() for part in parts], -1)
        for parts in (
            (solution.x,),
            (solution.y, solution.z, solution.z_box),
            (solution.s_eq, solution.s_in, solution.s_box),
        )
    )
    m = sum(sizes.rows)
    z, s = (t if sizes.bounded else t[..., :m] for t in (z, s))
    expected = (sizes.n,) if sizes.batch is None else (sizes.batch, sizes.n)
    counts = (solution.y.shape[-1], solution.z.shape[-1])
    if tuple(x.shape) != expected or counts != (sizes.n_eq, sizes.n_in) or x.device != device:
        raise ProblemError(
            f"warm_start answers problems with x of shape {tuple(x.shape)}, {counts} rows of A and C, on {x.device}; "
            f"these have {expected}, {(sizes.n_eq, sizes.n_in)}, on {device}"
        )
    batch = 1 if sizes.batch is None else sizes.batch
    known = torch.cat([x, z, s], -1).isfinite().all(-1, keepdim=True)
    return Start(*(torch.where(known, t, 0.0).reshape(batch, t.shape[-1]) for t in (x, z, s)))


def parts(t: Tensor, sizes: Sizes) -> tuple[Tensor, Tensor, Tensor]:
    """A vector of rows as its parts of A, of C and of the bounds, the last zero where x has none."""
    eq, ineq, box = (part.clone() for part in t.split(sizes.rows, -1))
    return eq, ineq, box if sizes.bounded else t.new_zeros(t.shape[0], sizes.n)
