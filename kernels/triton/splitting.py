"""The iteration of ADMM, as ``kernels/reference/splitting.py`` has it, for T problems of a program.

Where problems share their matrices, a program takes a tile of them, and their matrices stay on the chip: products are
those of the tensor cores in double precision, and in single precision on the ordinary units, as TF32 loses what the
iterations need. A problem with matrices of its own has a program to itself, T = 1. With matrices in float32 no
instruction of an iteration is in double precision.

The rows are in two parts, each padded to a power of two: where iterations are products with the response, as many
rows as fit the first and the rest of them, or else the stored rows and the bounds. The second may be missing.
"""

from typing import Any, NamedTuple

import triton
import triton.language as tl

from .vectors import INF, at_least, at_most


class Part(NamedTuple):
    """Of a tile of problems some of the rows: where they are, next to the measured point."""

    w: Any  # [T, M] and the rest
    v: Any
    pushes: Any  # their relaxed sum
    base: Any  # where the rows would be with no push
    held: Any  # z / rho at that point
    lo: Any
    hi: Any
    rho: Any  # [1, M]


class Shape(NamedTuple):
    """What a variant is compiled for."""

    alpha: float  # over-relaxation
    T: int  # problems of a program
    N: int  # n rounded up
    M: int  # and the first part of the rows
    L: int  # and the second, 0 where there is none
    C: int  # entries of a problem that are measured at once
    by_rows: bool  # whether an iteration is a product with the response
    has_h: bool
    bounded: bool
    version: str  # of the numbers, which Triton's own key of a variant does not see


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
def matrix(pointer, rows, columns, down, across, M: tl.constexpr, N: tl.constexpr):
    """[rows, columns], by the strides of both -> [M, N], zero beyond."""
    i, j = tl.arange(0, M), tl.arange(0, N)
    inside = (i[:, None] < rows) & (j[None, :] < columns)
    return tl.load(pointer + (i[:, None] * down + j[None, :] * across), mask=inside, other=0.0)


@triton.jit
def weights(pointer, count, N: tl.constexpr):
    """[count] -> [1, N], one beyond."""
    j = tl.arange(0, N)
    return tl.load(pointer + j, mask=j < count, other=1.0)[None, :]


@triton.jit
def times(X, M):
    """``X M``: [T, K], [K, N] -> [T, N]."""
    if X.shape[0] == 1:
        return tl.sum(tl.trans(X) * M, axis=0)[None, :]
    else:
        return tl.dot(X, M, input_precision="ieee", out_dtype=X.dtype)


@triton.jit
def extents(n, k, shape: tl.constexpr):
    """The rows of the first part, and where the second begins and ends."""
    if shape.by_rows:
        first = tl.minimum(k, shape.M)
        return first, first, k
    else:
        return k, k, k + n if shape.bounded else k


@triton.jit
def blocks(G, n, k, shape: tl.constexpr):
    """The stored rows of both parts: [M, N], [L, N]; the first twice where the second has none."""
    first, begin, end = extents(n, k, shape)
    rows = matrix(G, first, n, n, 1, shape.M, shape.N)
    if shape.by_rows and shape.L > 0:
        return rows, matrix(G + begin * n, end - begin, n, n, 1, shape.L, shape.N)
    else:
        return rows, rows


@triton.jit
def transposed(G, n, k, shape: tl.constexpr):
    """The same as columns: [N, M], [N, L]; read so, as the compiler would take them through shared memory thrice."""
    first, begin, end = extents(n, k, shape)
    columns = matrix(G, n, first, 1, n, shape.N, shape.M)
    if shape.by_rows and shape.L > 0:
        return columns, matrix(G + begin * n, n, end - begin, 1, n, shape.N, shape.L)
    else:
        return columns, columns


@triton.jit
def rows_of(x, G, shape: tl.constexpr):
    """``G x`` of both parts, by G transposed: [T, N] -> [T, M], [T, L]; the first twice where there is no second."""
    moved = times(x, G[0])
    if shape.L == 0:
        return moved, moved
    elif shape.by_rows:
        return moved, times(x, G[1])
    else:
        return moved, x


@triton.jit
def columns_of(p, q, G, shape: tl.constexpr):
    """``G' p`` of both parts: [T, M], [T, L] -> [T, N]."""
    pulled = times(p, G[0])
    if shape.L == 0:
        return pulled
    elif shape.by_rows:
        return pulled + times(q, G[1])
    else:
        return pulled + q


@triton.jit
def told(at, posed, rho_ptr, batched, where, base, offset, width, T: tl.constexpr, M: tl.constexpr):
    """A part of the rows at the measured point, in the precision of the iterations."""
    first, batch, m = where
    kind: tl.constexpr = base.dtype
    rho = weights(rho_ptr + offset, width, M)
    held = tile(at.z, first, batch, offset, m, width, 0.0, T, M).to(kind) / rho
    Gx = tile(at.Gx, first, batch, offset, m, width, 0.0, T, M)
    v = (tile(at.v, first, batch, offset, m, width, 0.0, T, M) - Gx).to(kind)
    lo = (tile(posed.lo, first, batch, offset, m * flag(batched, 1), width, -INF, T, M) - Gx).to(kind)
    hi = (tile(posed.hi, first, batch, offset, m * flag(batched, 2), width, INF, T, M) - Gx).to(kind)
    return Part(v, v, tl.zeros((T, M), kind), base, held, lo, hi, rho)


@triton.jit
def pushed(part, alpha: tl.constexpr):
    """What the rows of a part push x by, next to their rho: [T, M]; and the part with it in the sum."""
    kind: tl.constexpr = part.v.dtype
    push = tl.fma(part.v, tl.full((), 2.0, kind), -part.w)
    pushes = tl.fma(part.pushes, tl.full((), 1 - alpha, kind), push)
    return push, Part(part.w, part.v, pushes, part.base, part.held, part.lo, part.hi, part.rho)


@triton.jit
def within(part, moved, alpha: tl.constexpr):
    """The part after an iteration, whose rows have moved to [T, M]."""
    w = tl.fma(moved - part.v, tl.full((), alpha, moved.dtype), part.w)
    v = at_most(at_least(w + part.held, part.lo), part.hi)
    return Part(w, v, part.pushes, part.base, part.held, part.lo, part.hi, part.rho)


@triton.jit
def iterated_by_rows(r, q, response, n, k, count, shape: tl.constexpr):
    """``count`` iterations of both parts, by the response."""
    M: tl.constexpr = shape.M
    L: tl.constexpr = shape.L
    first, begin, end = extents(n, k, shape)
    own = matrix(response, first, first, k, 1, M, M)
    if L > 0:
        there = matrix(response + begin, first, end - begin, k, 1, M, L)
        back = matrix(response + begin * k, end - begin, first, k, 1, L, M)
        rest = matrix(response + begin * k + begin, end - begin, end - begin, k, 1, L, L)
    for _ in range(count):
        push, r = pushed(r, shape.alpha)
        if L > 0:
            other, q = pushed(q, shape.alpha)
            reached = q.base + times(push, there) + times(other, rest)
            q = within(q, reached, shape.alpha)
        moved = r.base + times(push, own)
        if L > 0:
            moved += times(other, back)
        r = within(r, moved, shape.alpha)
    return r, q


@triton.jit
def iterated_by_columns(r, q, inverse, G, n, k, count, shape: tl.constexpr):
    """The same by the inverse of K and by G."""
    K = matrix(inverse, n, n, n, 1, shape.N, shape.N)
    rows, columns = blocks(G, n, k, shape), transposed(G, n, k, shape)
    for _ in range(count):
        push, r = pushed(r, shape.alpha)
        other = push
        if shape.bounded:
            other, q = pushed(q, shape.alpha)
        step = times(columns_of(r.rho * push, q.rho * other, rows, shape), K)
        moved, there = rows_of(step, columns, shape)
        r = within(r, r.base + moved, shape.alpha)
        if shape.bounded:
            q = within(q, q.base + there, shape.alpha)
    return r, q
