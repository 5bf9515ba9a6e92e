"""From rows to a launch: which variant of a kernel, with how many warps, on which arrays.

The table is static: nothing is tuned in a user's run, and a shape that it does not hold goes to the reference.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import torch
import triton
from torch import Tensor

from ..interface import Adjoint, Answer, Options, Rows, Seeds, Start
from ..reference.forward import blank_answer, usable
from ..reference.least_squares import shifted_rows
from ..reference.products import Matrices
from ..reference.scaling import Scaling, measure_scaling
from ..reference.state import AS_POSED, SHIFT
from .adjoint import VECTORS, adjoint_kernel
from .forward import forward_kernel
from .problem import VECTORS_M, VECTORS_N, Config

CHOLESKY, SWEEP = 0, 1


# The adjoint does not look at them: one variant for all.
ADJOINT_OPTIONS = Options(0.0, 0.0, 0, 0.0, 0.0, 0.0, equilibrate=True, closest_feasible=True, mixed=False)


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


def config(rows: Rows, options: Options, launch: Launch) -> Config:
    """The variant for these rows."""
    return Config(
        rows.n,
        padded(rows.n),
        padded(rows.m),
        launch.chunk,
        launch.method,
        rows.H is not None,
        rows.bounded,
        options.eps_abs,
        options.eps_rel,
        options.mu_eq,
        options.mu_in,
        options.rho,
        options.closest_feasible,
    )


def bits(*arrays: Tensor) -> int:
    """Bit k says whether array k has a batch."""
    return sum((array.shape[0] > 1) << k for k, array in enumerate(arrays))


def problem_arrays(rows: Rows, scaling: Scaling) -> tuple[list[Tensor], int]:
    """The arrays of the problems in the order of the kernels, and which of them have a batch."""
    unit = scaling.row_unit(rows.w) / scaling.c
    H = rows.g if rows.H is None else rows.H  # never read where there is none
    arrays = (H, rows.A, rows.C, rows.g, scaling.D, scaling.E, scaling.c, unit, rows.lo, rows.hi)
    batched = bits(*arrays)
    return [t.contiguous() for t in (*arrays, rows.w, rows.hard.to(torch.int8))], batched


def launch_forward(rows: Rows, options: Options, start: Start | None, launch: Launch | None = None) -> Answer:
    """One launch over the batch; problems whose numbers are not finite keep the blank answer."""
    options = replace(options, mixed=False)
    answer = blank_answer(rows)
    scaling = measure_scaling(Matrices.of(rows, mixed=False), rows.g, options.equilibrate)
    arrays, batched = problem_arrays(rows, scaling)
    x, z = rows.g.new_zeros(rows.batch, rows.n), rows.g.new_zeros(rows.batch, rows.m)
    phase = torch.full_like(answer.status, AS_POSED)
    if start is not None:
        shifted = (start.s != 0).any(-1)
        phase, x, z = phase.masked_fill(shifted, SHIFT), start.x, start.z.masked_fill(shifted.unsqueeze(-1), 0.0)
    phase = phase.masked_fill(~usable(rows), -1).to(torch.int32)
    launch = TABLE[padded(rows.n)] if launch is None else launch
    cfg = config(rows, options, launch)
    scratch = x.new_empty(rows.batch, VECTORS_N.value * cfg.N + VECTORS_M.value * cfg.M)
    forward_kernel[(rows.batch,)](
        *arrays,
        x.contiguous(),
        z.contiguous(),
        phase,
        scratch,
        *vars(answer).values(),
        batched,
        rows.n,
        rows.n_eq,
        rows.n_in,
        options.max_iter,
        cfg,
        num_warps=launch.warps,
        maxnreg=MAXIMAL_REGISTERS,
    )
    return answer


def launch_adjoint(rows: Rows, answer: Answer, seeds: Seeds, options: Options, launch: Launch | None = None) -> Adjoint:
    """One launch over the batch; where hard rows may press on a shift, the reference says which are shifted."""
    options = replace(options, mixed=False)
    matrices = Matrices.of(rows, mixed=False)
    scaling = measure_scaling(matrices, rows.g, options.equilibrate)
    W, w, s = shifted_rows(matrices, scaling, rows, answer.x, answer.s, options)
    kind = torch.where(W, 2, ((answer.z != 0) | (rows.lo == rows.hi)).to(torch.int8)).to(torch.int8)
    wanted = torch.cat([seeds.x, seeds.z, seeds.s], -1).any(-1)
    H = rows.g if rows.H is None else rows.H  # never read where there is none
    arrays = (H, rows.A, rows.C, scaling.D, scaling.E, scaling.c, scaling.row_unit(w), w)
    x, z = torch.zeros_like(answer.x), torch.zeros_like(answer.z)
    ws = torch.where(wanted.unsqueeze(-1), w * s, 0.0)
    result = Adjoint(b_x=x, p=z, z=z.clone(), ws=ws, b_s=x.clone(), q_z=z.clone(), b_z=x.clone())
    launch = TABLE[padded(rows.n)] if launch is None else launch
    cfg = config(rows, ADJOINT_OPTIONS, launch)
    adjoint_kernel[(rows.batch,)](
        *(t.contiguous() for t in (*arrays, kind, answer.z, seeds.x, seeds.z, seeds.s)),
        wanted.to(torch.int32),
        x.new_empty(rows.batch, cfg.N + VECTORS.value * cfg.M),
        result.b_x,
        result.p,
        result.z,
        result.b_s,
        result.q_z,
        result.b_z,
        bits(*arrays),
        rows.n,
        rows.n_eq,
        rows.n_in,
        cfg,
        num_warps=launch.warps,
        maxnreg=MAXIMAL_REGISTERS,
    )
    return result
