"""From rows to a launch: which variant of a kernel, with how many warps, on which arrays.

The table is static: nothing is tuned in a user's run. Nothing here looks at a number of the problems: a solve can be
captured in a CUDA graph.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import torch
import triton
from torch import Tensor

from .. import numbers
from ..interface import Adjoint, Answer, Options, Rows, Vectors
from . import slots
from .adjoint import adjoint_kernel
from .forward import forward_kernel
from .problem import Arrays, Config
from .scratch import scratch_size


class Launch(NamedTuple):
    """How a variant is launched."""

    warps: int
    chunk: int  # rows of a matrix read at once


TABLE = {8: Launch(1, 4), 16: Launch(1, 4), 32: Launch(2, 4), 64: Launch(8, 8)}  # by padded n
LARGEST_N, LARGEST_M = 64, 256  # the tile of K stays in registers, and the vectors of rows are short
SMALLEST = 8  # tile
MAXIMAL_REGISTERS = 255  # said to NVIDIA's assembler, or it spills a little so as to have more programs at once


def digest(*sources: str) -> str:
    """Of what Triton's own key of a compiled kernel leaves out: the numbers that it reads off modules."""
    return hashlib.sha256("".join(sources).encode()).hexdigest()


VERSION = digest(inspect.getsource(numbers), inspect.getsource(slots))


def padded(count: int) -> int:
    """The power of two that holds so many."""
    return max(SMALLEST, triton.next_power_of_2(count))


def variant(rows: Rows) -> tuple[Config, dict[str, int]]:
    """The variant for these rows, and how the compiler is to build it."""
    N, M = padded(rows.n), padded(rows.m)
    warps, chunk = TABLE[N]
    cfg = Config(rows.n, N, M, chunk, rows.H is not None, rows.bounded, VERSION)
    build = {"num_warps": warps}
    if torch.version.hip is None:  # AMD's refuses what it does not know
        build["maxnreg"] = MAXIMAL_REGISTERS
    return cfg, build


def arrays_of(rows: Rows) -> Arrays:
    """What the kernels take first; H is never read where there is none."""
    H = rows.g if rows.H is None else rows.H
    return Arrays(H, rows.g, rows.A, rows.C, rows.lo, rows.hi, *rows.weights())


def contiguous(arrays: Iterable[Tensor]) -> Iterator[Tensor]:
    """The arrays, or copies of them."""
    return (array.contiguous() for array in arrays)


def batched(arrays: Iterable[Tensor]) -> int:
    """Bit k says whether array k has a batch."""
    return sum((array.shape[0] > 1) << k for k, array in enumerate(arrays))


def launch_forward(rows: Rows, options: Options, start: Vectors | None) -> Answer:
    """One launch over the batch."""
    new, zeros = rows.g.new_empty, rows.g.new_zeros
    vectors = (new(rows.batch, size) for size in (rows.n, rows.m, rows.m))
    counts = (new(rows.batch, dtype=torch.int64) for _ in range(2))
    answer = Answer(*vectors, *counts, *(new(rows.batch) for _ in range(3)))
    first = start or Vectors(zeros(1, rows.n), zeros(1, rows.m), zeros(1, rows.m))
    arrays = arrays_of(rows)
    cfg, build = variant(rows)
    forward_kernel[(rows.batch,)](
        Arrays(*contiguous(arrays)),
        Vectors(*contiguous(first)),
        answer,
        new(rows.batch, scratch_size(cfg.N, cfg.M)),
        batched((*arrays, *first)),
        rows.n,
        rows.n_eq,
        rows.n_in,
        options.max_iter,
        int(options.equilibrate),
        int(options.closest_feasible),
        options.eps_abs,
        options.eps_rel,
        options.mu_eq,
        options.mu_in,
        options.rho,
        cfg,
        **build,
    )
    return answer


def launch_adjoint(rows: Rows, at: Vectors, grad: Vectors, options: Options) -> Adjoint:
    """One launch over the batch."""
    x, z, _ = at
    result = Adjoint(*(torch.empty_like(t, memory_format=torch.contiguous_format) for t in (x, z, z, z, x, z, x)))
    arrays = arrays_of(rows)
    cfg, build = variant(rows)
    adjoint_kernel[(rows.batch,)](
        Arrays(*contiguous(arrays)),
        Vectors(*contiguous(at)),
        Vectors(*contiguous(grad)),
        result,
        x.new_empty(rows.batch, scratch_size(cfg.N, cfg.M)),
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
