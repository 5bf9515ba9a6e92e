"""From rows to a launch: which variant of a kernel, with how many warps, on which arrays.

The tables are static: nothing is tuned in a user's run. Nothing here looks at a number of the problems: a solve can be
captured in a CUDA graph.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Iterable
from typing import TypeVar

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
from .vectors import COMPILED

Record = TypeVar("Record", Arrays, Vectors)

WARPS = {8: 1, 16: 1, 32: 2, 64: 8}  # by n rounded up to a power of two
CHUNK = {8: 4, 16: 4, 32: 4, 64: 8}  # rows of a matrix read at once
LARGEST_N, LARGEST_M = max(WARPS), 256  # the tile of K stays in registers, and the vectors of rows are short
RESIDENT = 16  # warps of a multiprocessor at most, as each of their threads has 128 registers or more
MAXIMAL_REGISTERS = 255  # said to NVIDIA's assembler, or it spills a little so as to have more programs at once


def digest(*sources: str) -> str:
    """Of what Triton's own key of a compiled kernel leaves out: the numbers that it reads off modules."""
    return hashlib.sha256("".join(sources).encode()).hexdigest()


VERSION = digest(inspect.getsource(numbers), inspect.getsource(slots))


def padded(count: int) -> int:
    """The power of two that holds so many."""
    return max(min(WARPS), triton.next_power_of_2(count))


def variant_of(rows: Rows) -> tuple[Config, dict[str, int]]:
    """The variant for these rows, and how the compiler is to build it."""
    N, M = padded(rows.n), padded(rows.m)
    cfg = Config(rows.n, N, M, CHUNK[N], rows.H is not None, rows.bounded, VERSION)
    return cfg, built(WARPS[N])


def built(warps: int) -> dict[str, int]:
    """How the compiler is to build a kernel."""
    build = COMPILED | {"num_warps": warps}
    if torch.version.hip is None:  # AMD's refuses what it does not know
        build["maxnreg"] = MAXIMAL_REGISTERS
    return build


def scratch_of(rows: Rows, cfg: Config) -> tuple[Tensor, Tensor, int]:
    """Memory for programs, which parts of it are taken, and how many parts there are.

    Twice as many as programs that run at once, so that one is soon found, however large the batch is.
    """
    device, parts = rows.g.device, 1  # interpreted, one after the other
    if rows.g.is_cuda:
        processors = torch.cuda.get_device_properties(device).multi_processor_count
        parts = min(rows.batch, 2 * processors * (RESIDENT // WARPS[cfg.N]))
    scratch = rows.g.new_empty(parts, scratch_size(cfg.N, cfg.M))
    return scratch, torch.zeros(parts, dtype=torch.int32, device=device), parts


def arrays_of(rows: Rows) -> Arrays:
    """What the kernels take first, contiguous; H is never read where there is none."""
    H = rows.g if rows.H is None else rows.H
    return contiguous(Arrays(H, rows.g, rows.A, rows.C, rows.lo, rows.hi, *rows.weights()))


def contiguous(record: Record) -> Record:
    """The same with copies of what is not contiguous."""
    return type(record)(*(array.contiguous() for array in record))


def batched(arrays: Iterable[Tensor]) -> int:
    """Bit k says whether array k has a batch."""
    return sum((array.shape[0] > 1) << k for k, array in enumerate(arrays))


def launch_forward(rows: Rows, options: Options, start: Vectors | None) -> Answer:
    """One launch over the batch."""
    new, zeros = rows.g.new_empty, rows.g.new_zeros
    vectors = (new(rows.batch, size) for size in (rows.n, rows.m, rows.m))
    counts = (new(rows.batch, dtype=torch.int64) for _ in range(2))
    answer = Answer(*vectors, *counts, *(new(rows.batch) for _ in range(3)))
    start = contiguous(start or Vectors(zeros(1, rows.n), zeros(1, rows.m), zeros(1, rows.m)))
    arrays = arrays_of(rows)
    cfg, build = variant_of(rows)
    forward_kernel[(rows.batch,)](
        arrays,
        start,
        answer,
        *scratch_of(rows, cfg),
        batched((*arrays, *start)),
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
    cfg, build = variant_of(rows)
    adjoint_kernel[(rows.batch,)](
        arrays,
        contiguous(at),
        contiguous(grad),
        result,
        *scratch_of(rows, cfg),
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
