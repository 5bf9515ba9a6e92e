"""The iteration of ADMM, as ``kernels/reference/splitting.py`` has it, for T problems of a program.

Where problems share their matrices, a program takes a tile of them: the inverse and the rows stay on the chip, and an
iteration is three products of matrices, in double precision by the tensor cores, in single precision as its name says
("ieee", on the ordinary units, or "tf32x3", three products of the tensor cores for one). A problem with matrices of its
own has a program to itself, T = 1. With matrices in float32 no instruction of an iteration is in double precision.
"""

from typing import Any, NamedTuple

import triton
import triton.language as tl

from .vectors import INF


class Part(NamedTuple):
    """Of a tile of problems the stored rows, or the bounds: where they are, next to the measured point."""

    z: Any  # [T, M] at that point
    dz: Any  # [T, M] and the rest: now
    v: Any  # [T, M]
    lo: Any  # [T, M]
    hi: Any  # [T, M]
    rho: Any  # [1, M]


@triton.jit
def flag(batched, k):
    """Bit k, which says whether array k has a batch."""
    return (batched >> k) & 1


@triton.jit
def tile(pointer, first, count, offset, stride, width, other, T: tl.constexpr, N: tl.constexpr):
    """Entries ``offset`` to ``offset + width`` of the vectors of T problems: [T, N]; shared ones have no stride."""
    b, j = tl.arange(0, T), tl.arange(0, N)
    inside = (b[:, None] < count - first) & (j[None, :] < width)
    return tl.load(pointer + (first * stride + offset) + (b[:, None] * stride + j[None, :]), mask=inside, other=other)


@triton.jit
def put_tile(pointer, value, first, count, offset, stride, width):
    """Writes what :func:`tile` reads."""
    T: tl.constexpr = value.shape[0]
    N: tl.constexpr = value.shape[1]
    b, j = tl.arange(0, T), tl.arange(0, N)
    inside = (b[:, None] < count - first) & (j[None, :] < width)
    tl.store(pointer + (first * stride + offset) + (b[:, None] * stride + j[None, :]), value, mask=inside)


@triton.jit
def matrix(pointer, rows, columns, M: tl.constexpr, N: tl.constexpr):
    """[rows, columns] -> [M, N], zero beyond."""
    i, j = tl.arange(0, M), tl.arange(0, N)
    inside = (i[:, None] < rows) & (j[None, :] < columns)
    return tl.load(pointer + (i[:, None] * columns + j[None, :]), mask=inside, other=0.0)


@triton.jit
def weights(pointer, count, N: tl.constexpr):
    """[count] -> [1, N], one beyond."""
    j = tl.arange(0, N)
    return tl.load(pointer + j, mask=j < count, other=1.0)[None, :]


@triton.jit
def times(X, M, precision: tl.constexpr):
    """``X M``: [T, K], [K, N] -> [T, N]."""
    if X.shape[0] == 1:
        return tl.sum(tl.trans(X) * M, axis=0)[None, :]
    else:
        return tl.dot(X, M, input_precision=precision, out_dtype=X.dtype)


@triton.jit
def times_transposed(X, M, precision: tl.constexpr):
    """``X M'``: [T, N], [K, N] -> [T, K]."""
    if X.shape[0] == 1:
        return tl.sum(X * M, axis=1)[None, :]
    else:
        return tl.dot(X, tl.trans(M), input_precision=precision, out_dtype=X.dtype)


@triton.jit
def told(at, posed, rho_ptr, batched, where, offset, width, kind: tl.constexpr, T: tl.constexpr, M: tl.constexpr):
    """A part of the rows at the measured point, in the precision of the iterations."""
    first, batch, m = where
    z, Gx = (
        tile(at.z, first, batch, offset, m, width, 0.0, T, M),
        tile(at.Gx, first, batch, offset, m, width, 0.0, T, M),
    )
    v = tile(at.v, first, batch, offset, m, width, 0.0, T, M) - Gx
    lo = tile(posed.lo, first, batch, offset, m * flag(batched, 1), width, -INF, T, M) - Gx
    hi = tile(posed.hi, first, batch, offset, m * flag(batched, 2), width, INF, T, M) - Gx
    rho = weights(rho_ptr + offset, width, M)
    return Part(z.to(kind), tl.zeros((T, M), kind), v.to(kind), lo.to(kind), hi.to(kind), rho)


@triton.jit
def pushed(part):
    """What the rows of a part push x by: [T, M]."""
    return part.rho * part.v - part.dz


@triton.jit
def within(part, moved):
    """The part after an iteration, whose rows have moved to [T, M]."""
    free = moved + (part.z + part.dz) / part.rho
    v = tl.minimum(tl.maximum(free, part.lo), part.hi)
    dz = tl.where(v == free, -part.z, part.dz + part.rho * (moved - v))
    return Part(part.z, dz, v, part.lo, part.hi, part.rho)
