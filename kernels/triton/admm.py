"""The launches of ADMM, in the place of the reference's iterations and inverses."""

from __future__ import annotations

from dataclasses import fields

import torch
import triton
from torch import Tensor

from .. import numbers
from ..interface import Options, Rows
from ..reference import advance as reference
from ..reference.admm import Steps
from ..reference.products import Matrices
from ..reference.splitting import Metric, Operators, operators, weighed
from .advance import Point, Posed, advance_kernel
from .inverse import inverse_kernel
from .launch import VERSION, batched, built
from .splitting import Shape

LEAST = 16  # the smallest side of a product of matrices
LARGEST_N, LARGEST_K = 64, 128  # what the tiles of a program hold, bounds aside
WARPS = {16: 4, 32: 8, 64: 8}  # of an inverse, by n rounded up
TILE = 16  # problems of a program, where they share their matrices
TILE_ROWS = 24  # of a warp, at most, where they do
ENTRIES = 64  # of a thread, where they do not: of all matrices, that of the rows in two layouts
MOST_WARPS = 8  # with more a thread would have less than half the registers that there may be
THREADS = 32  # of a warp


def obstacle(rows: Rows) -> str:
    """Why the kernel cannot take such problems, as advice; empty where it can."""
    if rows.n > LARGEST_N or rows.n_eq + rows.n_in > LARGEST_K:
        return f"its ADMM takes {LARGEST_N} variables and {LARGEST_K} rows at most, bounds aside"
    return ""


def padded(count: int) -> int:
    """The power of two that holds so many."""
    return max(LEAST, triton.next_power_of_2(count))


def stored(matrices: Matrices, like: Tensor) -> Tensor:
    """The stored rows as one array: [B|1, k, n], a copy where only some of them are shared."""
    none = like.new_empty(1, 0, matrices.n)
    batch = max(len(G) for G in (none, *matrices.blocks))
    return torch.cat([G.expand(batch, -1, -1) for G in (none, *matrices.blocks)], 1)


def parts(k: int, n: int, by_rows: bool, bounded: bool) -> tuple[int, int]:
    """The sizes of the two parts of the rows, rounded up; the second is 0 where there is none."""
    if by_rows:
        first = max(LEAST, padded(k + 1) // 2)
        return first, padded(k - first) if k > first else 0
    return padded(k), padded(n) if bounded else 0


def shape_of(n: int, k: int, by_rows: bool, has_h: bool, bounded: bool, own: bool) -> tuple[Shape, int]:
    """The variant for such problems, with or without matrices of their own, and its warps."""
    N, (M, L) = padded(n), parts(k, n, by_rows, bounded)
    tile = 1 if own else TILE
    if own:
        entries = (M + L) ** 2 if by_rows else N * (N + 2 * M)
        warps = min(MOST_WARPS, triton.next_power_of_2(triton.cdiv(entries, THREADS * ENTRIES)))
    else:  # with one tile of a product, each warp would have all of it
        warps = 1 if M == LEAST else triton.next_power_of_2(triton.cdiv(M + L, TILE_ROWS))
    measured = THREADS * warps // tile
    return Shape(numbers.ADMM_RELAXATION, tile, N, M, L, measured, by_rows, has_h, bounded, VERSION), warps


def inverses(matrices: Matrices, metric: Metric, rho: Tensor) -> Operators:
    """As the reference's operators; problems with matrices of their own have them inverted by a program each."""
    if len(rho) == 1:
        return operators(matrices, metric, rho)
    by_row, sigma, matrices = weighed(matrices, metric, rho)
    B, n, G = len(by_row), matrices.n, stored(matrices, by_row)
    inverse = by_row.new_empty(B, n, n)
    failed = torch.empty(B, dtype=torch.bool, device=rho.device)
    H = G if matrices.H is None else matrices.H.contiguous()
    N = padded(n)
    with torch.cuda.device_of(rho):  # Triton launches on the current device
        inverse_kernel[(B,)](
            *(H, G, by_row, sigma, inverse, failed),
            batched((H, G, sigma)),
            n,
            G.shape[1],
            matrices.H is not None,
            matrices.bounded,
            N,
            padded(G.shape[1]),
            **built(WARPS[N]),
        )
    return Operators.of(matrices, inverse, by_row, failed)


def advance(
    point: reference.Point,
    posed: reference.Posed,
    matrices: Matrices,
    by: Operators,
    options: Options,
    count: int,
) -> tuple[reference.Point, reference.Measure]:
    """As the reference's, in a launch."""
    B, n = point.x.shape
    point = reference.Point(*(t.contiguous() for t in vars(point).values()))
    after = reference.Point(*(torch.empty_like(t) for t in vars(point).values()))
    found = point.x.new_empty(len(fields(reference.Measure)), B)
    rows = stored(matrices, point.x)
    k, scaling, by_rows = rows.shape[1], posed.scaling, by.response is not None
    inexact = rows if matrices.single is None else stored(matrices.single, by.inverse)
    H = rows if matrices.H is None else matrices.H
    response = by.inverse if by.response is None else by.response
    vectors = (posed.g, posed.lo, posed.hi, posed.s, scaling.columns, scaling.rows, scaling.unit, scaling.c, scaling.h)
    given = Posed._make(t.contiguous() for t in (*vectors, H, rows, inexact, by.inverse, response, by.rho))
    own = max(len(H), len(rows), len(by.inverse)) > 1
    shape, warps = shape_of(n, k, by_rows, matrices.H is not None, matrices.bounded, own)
    share = 1 - (1 - numbers.ADMM_RELAXATION) ** count
    with torch.cuda.device_of(point.x):  # Triton launches on the current device
        advance_kernel[(triton.cdiv(B, shape.T),)](
            *(Point._make(vars(point).values()), Point._make(vars(after).values()), given, found),
            *(batched(given), B, n, k, count, share, options.eps_abs, options.eps_rel, shape),
            **built(warps),
        )
    return after, reference.Measure(*found)


STEPS = Steps(inverses, advance)
