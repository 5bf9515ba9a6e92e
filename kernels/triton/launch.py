"""From rows to a launch: which variant of a kernel, with how many warps, on which arrays.

The table is static: nothing is tuned in a user's run, and a shape that it does not hold goes to the reference. Nothing
here looks at a number of the problems: a solve can be captured in a CUDA graph.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import triton
from torch import Tensor

from ..interface import MIXED_STEPS, Adjoint, Answer, Options, Rows, Seeds, Start
from .adjoint import adjoint_kernel
from .forward import forward_kernel
from .problem import Config, scratch_size

CHOLESKY, SWEEP = 0, 1


class Launch(NamedTuple):
    """How a variant is launched."""

    warps: int
    chunk: int  # rows of a matrix read at once
    method: int  # of factor.py


# By padded n, for as many rows as fit. resources.csv has what each needs on the chip. The sweep takes as many Newton
# steps as the Cholesky factor does, in a third of its instructions.
TABLE = {
    8: Launch(1, 4, SWEEP),
    16: Launch(1, 4, SWEEP),
    32: Launch(2, 4, SWEEP),
    64: Launch(8, 8, SWEEP),
}
LARGEST_N, LARGEST_M = 64, 256
SMALLEST = 8  # tile
MAXIMAL_REGISTERS = 255  # said to the assembler, or it spills a little so as to have more programs at once


def padded(count: int, least: int = SMALLEST) -> int:
    """The power of two that holds so many."""
    return max(least, triton.next_power_of_2(count))


def fits(rows: Rows) -> bool:
    """Whether the tile of K stays in registers and the vectors of rows are short: the one place that decides."""
    return rows.n <= LARGEST_N and rows.m <= LARGEST_M


def config(rows: Rows, mixed: bool, launch: Launch | None) -> tuple[Config, dict[str, int]]:
    """The variant for these rows, and how the compiler is to build it."""
    N = padded(rows.n)
    warps, chunk, method = TABLE[N] if launch is None else launch
    cfg = Config(rows.n, N, padded(rows.m), chunk, method, rows.H is not None, rows.bounded, mixed)
    return cfg, {"num_warps": warps, "maxnreg": MAXIMAL_REGISTERS}


def batched(arrays: tuple[Tensor, ...]) -> int:
    """Bit k says whether array k has a batch."""
    return sum((array.shape[0] > 1) << k for k, array in enumerate(arrays))


def problem_arrays(rows: Rows) -> tuple[Tensor, ...]:
    """What the kernels take first; H is never read where there is none."""
    return rows.g if rows.H is None else rows.H, rows.A, rows.C, rows.g, rows.lo, rows.hi


def launch_forward(rows: Rows, options: Options, start: Start | None, launch: Launch | None = None) -> Answer:
    """One launch over the batch; in mixed precision a second one, for what the first has not solved."""
    new = rows.g.new_empty
    counts = (new(rows.batch, dtype=torch.int64) for _ in range(2))
    vectors = (new(rows.batch, k) for k in (rows.n, rows.m, rows.m))
    answer = Answer(*vectors, *counts, *(new(rows.batch) for _ in range(3)))
    first = min(options.max_iter, MIXED_STEPS) if options.mixed else options.max_iter
    _forward(answer, rows, options, start, launch, mixed=options.mixed, max_iter=first, again=False)
    if options.max_iter > first:
        _forward(answer, rows, options, None, launch, mixed=False, max_iter=options.max_iter - first, again=True)
    return answer


def _forward(
    answer: Answer,
    rows: Rows,
    options: Options,
    start: Start | None,
    launch: Launch | None,
    *,
    mixed: bool,
    max_iter: int,
    again: bool,
) -> None:
    if start is None:
        zeros = rows.g.new_zeros
        start = Start(zeros(1, rows.n), zeros(1, rows.m), zeros(1, rows.m))
    arrays = (*problem_arrays(rows), start.x, start.z, start.s)
    cfg, build = config(rows, mixed, launch)
    forward_kernel[(rows.batch,)](
        *(t.contiguous() for t in (*arrays, rows.w, rows.hard)),
        rows.g.new_empty(rows.batch, scratch_size(cfg)),
        *vars(answer).values(),
        batched(arrays),
        rows.n,
        rows.n_eq,
        rows.n_in,
        max_iter,
        int(options.equilibrate),
        int(options.closest_feasible),
        int(again),
        options.eps_abs,
        options.eps_rel,
        options.mu_eq,
        options.mu_in,
        options.rho,
        cfg,
        **build,
    )


def launch_adjoint(rows: Rows, answer: Answer, seeds: Seeds, options: Options, launch: Launch | None = None) -> Adjoint:
    """One launch over the batch."""
    arrays = problem_arrays(rows)
    x, z = answer.x, answer.z
    result = Adjoint(*(torch.empty_like(t, memory_format=torch.contiguous_format) for t in (x, z, z, z, x, z, x)))
    cfg, build = config(rows, False, launch)
    adjoint_kernel[(rows.batch,)](
        *(t.contiguous() for t in (*arrays, rows.w, rows.hard, x, z, answer.s, *vars(seeds).values())),
        x.new_empty(rows.batch, scratch_size(cfg)),
        *vars(result).values(),
        batched(arrays),
        rows.n,
        rows.n_eq,
        rows.n_in,
        int(options.equilibrate),
        options.eps_abs,
        cfg,
        **build,
    )
    return result
