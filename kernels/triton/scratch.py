"""The memory of one problem: its vectors, its factor and its numbers, by their places in slots.py.

Vectors of columns are [N], vectors of rows [M], both powers of two; what is beyond n and m weighs nothing. Only what
one expression needs is in registers, as these limit how large n may be.
"""

import triton
import triton.language as tl

from . import slots


@triton.constexpr_function
def vectors_size(N, M):
    """Numbers in all vectors."""
    return slots.COLUMNS * N + slots.ROWS * M


@triton.constexpr_function
def scratch_size(N, M):
    """Numbers in the scratch of one problem."""
    return vectors_size(N, M) + N * N + slots.NUMBERS


@triton.jit
def take_part(taken, parts):
    """The number of a part of the scratch (int64) that is no other program's until :func:`give_back`.

    The search begins at what was most likely given back long ago.
    """
    part = tl.program_id(0) % parts
    while tl.atomic_cas(taken + part, 0, 1) != 0:
        part = (part + 1) % parts
    return part.to(tl.int64)


@triton.jit
def give_back(taken, part):
    """Ends what :func:`take_part` began."""
    tl.debug_barrier()
    tl.atomic_xchg(taken + part, 0)


@triton.jit
def get(pointer, count, other, SIZE: tl.constexpr):
    """Reads a vector [SIZE], ``other`` from entry ``count`` on."""
    index = tl.arange(0, SIZE)
    return tl.load(pointer + index, mask=index < count, other=other)


@triton.jit
def put(pointer, value, count, SIZE: tl.constexpr):
    """Writes the first ``count`` entries of a vector [SIZE]; earlier reads and later reads are kept apart from it."""
    index = tl.arange(0, SIZE)
    tl.debug_barrier()
    tl.store(pointer + index, value, mask=index < count)
    tl.debug_barrier()


@triton.jit
def columns_at(data, k, cfg: tl.constexpr):
    """Where vector k of columns is."""
    return data.scratch + k * cfg.N


@triton.jit
def rows_at(data, k, cfg: tl.constexpr):
    """Where vector k of rows is."""
    return data.scratch + (slots.COLUMNS * cfg.N + k * cfg.M)


@triton.jit
def factor_at(data, cfg: tl.constexpr):
    """Where the entries of the factor are: [N, N]."""
    index = tl.arange(0, cfg.N)
    return data.scratch + vectors_size(cfg.N, cfg.M) + (index[:, None] * cfg.N + index[None, :])


@triton.jit
def number_at(data, k, cfg: tl.constexpr):
    """Where number k is."""
    return data.scratch + (vectors_size(cfg.N, cfg.M) + cfg.N * cfg.N + k)


@triton.jit
def column_vector(data, k, cfg: tl.constexpr):
    """Vector k of columns: [N]."""
    return tl.load(columns_at(data, k, cfg) + tl.arange(0, cfg.N))


@triton.jit
def row_vector(data, k, cfg: tl.constexpr):
    """Vector k of rows: [M]."""
    return tl.load(rows_at(data, k, cfg) + tl.arange(0, cfg.M))


@triton.jit
def number(data, k, cfg: tl.constexpr):
    """Number k."""
    return tl.load(number_at(data, k, cfg))


@triton.jit
def put_columns(data, k, value, cfg: tl.constexpr):
    """Writes vector k of columns."""
    put(columns_at(data, k, cfg), value, cfg.N, cfg.N)


@triton.jit
def put_rows(data, k, value, cfg: tl.constexpr):
    """Writes vector k of rows."""
    put(rows_at(data, k, cfg), value, cfg.M, cfg.M)


@triton.jit
def put_number(data, k, value, cfg: tl.constexpr):
    """Writes number k."""
    tl.debug_barrier()
    tl.store(number_at(data, k, cfg), tl.full((), value, tl.float64))
    tl.debug_barrier()


@triton.jit
def clear(data, cfg: tl.constexpr):
    """Fills the vectors with zeros."""
    count = vectors_size(cfg.N, cfg.M)
    for start in range(0, count, cfg.M):
        index = start + tl.arange(0, cfg.M)
        tl.store(data.scratch + index, index * 0.0, mask=index < count)
    tl.debug_barrier()
