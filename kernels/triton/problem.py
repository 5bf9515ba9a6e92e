"""One problem as its program sees it: where its arrays are, its sizes, its state and its sides.

Large functions are not inlined: the compiler would compute the addresses and masks of all of them ahead of the loop,
and spill. Arguments and results of such a function can only be scalars. It begins with a barrier, as Triton puts none
between what its caller left in shared memory and its own first use of it.
"""

from typing import Any, NamedTuple

import triton
import triton.language as tl

from .. import numbers
from . import slots
from .scratch import clear, column_vector, get, number, put_columns, put_number, put_rows, row_vector, scratch_size
from .vectors import INF


class Config(NamedTuple):
    """What a variant of a kernel is compiled for."""

    n: int
    N: int  # n rounded up to a power of two
    M: int  # the same of the rows
    chunk: int  # rows of a matrix read at once
    has_h: bool
    bounded: bool
    version: str  # of the numbers and slots, which Triton's own key of a variant does not see


class Arrays(NamedTuple):
    """Pointers to a batch of problems, as ``Rows`` has them."""

    H: Any  # [B|1, n, n]
    g: Any  # [B|1, n]
    A: Any  # [B|1, n_eq, n]
    C: Any  # [B|1, n_in, n]
    lo: Any  # [B|1, m]
    hi: Any  # [B|1, m]
    w: Any  # [B|1, m]
    hard: Any  # [B|1, m] bool


class Data(NamedTuple):
    """Pointers to the matrices and the scratch of one problem, and its sizes."""

    H: Any  # [n, n]
    A: Any  # [n_eq, n]
    C: Any  # [n_in, n]
    scratch: Any  # [scratch_size(N, M)]
    n: Any  # at run time, as a known trip count would have the compiler unroll loops and spill
    n_eq: Any
    n_in: Any


class State(NamedTuple):
    """What a problem carries in registers from one Newton step to the next; the rest is in scratch."""

    phase: Any
    status: Any
    steps: Any
    rho: Any


@triton.jit
def with_status(st, status):
    """The state with another status."""
    return State(st.phase, status, st.steps, st.rho)


@triton.jit
def at_problem(pointer, b, batched, k, size):
    """Where array k of problem b begins; bit k of ``batched`` says whether the array has a batch."""
    return pointer + b * ((batched >> k) & 1) * size


@triton.jit
def data_of(arrays, scratch, part, b, batched, order, n_eq, n_in, cfg: tl.constexpr):
    """Problem b of a batch, in a part of the scratch."""
    return Data(
        at_problem(arrays.H, b, batched, 0, cfg.n * cfg.n),
        at_problem(arrays.A, b, batched, 2, n_eq * cfg.n),
        at_problem(arrays.C, b, batched, 3, n_in * cfg.n),
        scratch + part * scratch_size(cfg.N, cfg.M),
        order,
        n_eq,
        n_in,
    )


@triton.jit
def count_rows(data, cfg: tl.constexpr):
    """The number m of rows."""
    return data.n_eq + data.n_in + (cfg.n if cfg.bounded else 0)


@triton.jit
def load_vectors(data, arrays, b, batched, cfg: tl.constexpr):
    """Writes the vectors of problem b to its scratch, and zeros elsewhere."""
    m = count_rows(data, cfg)
    clear(data, cfg)
    put_number(data, slots.IS_DEFINITE, 0.0, cfg)
    put_columns(data, slots.COST_POSED, get(at_problem(arrays.g, b, batched, 1, cfg.n), cfg.n, 0.0, cfg.N), cfg)
    put_rows(data, slots.LO, get(at_problem(arrays.lo, b, batched, 4, m), m, -INF, cfg.M), cfg)
    put_rows(data, slots.HI, get(at_problem(arrays.hi, b, batched, 5, m), m, INF, cfg.M), cfg)
    put_rows(data, slots.SHIFT_WEIGHT, get(at_problem(arrays.w, b, batched, 6, m), m, 1.0, cfg.M), cfg)
    hard = get(at_problem(arrays.hard, b, batched, 7, m), m, 0, cfg.M)
    put_rows(data, slots.IS_HARD, hard.to(tl.float64), cfg)
    as_posed(data, cfg)


@triton.jit
def as_posed(data, cfg: tl.constexpr):
    """The cost and the sides are those that are posed."""
    put_columns(data, slots.COST, column_vector(data, slots.COST_POSED, cfg), cfg)
    put_rows(data, slots.LOW, row_vector(data, slots.LO, cfg), cfg)
    put_rows(data, slots.HIGH, row_vector(data, slots.HI, cfg), cfg)


@triton.jit
def sides(data, cfg: tl.constexpr):
    """The sides after the shift: [M], [M], infinite beyond m."""
    return row_vector(data, slots.LOW, cfg), row_vector(data, slots.HIGH, cfg)


@triton.jit
def shift_sides(data, s, cfg: tl.constexpr):
    """Moves the sides by the shift s [M]. A row that is shifted becomes an equality."""
    low, high = sides(data, cfg)
    put_rows(data, slots.LOW, tl.where(s > 0, high, low) + s, cfg)
    put_rows(data, slots.HIGH, tl.where(s < 0, low, high) + s, cfg)


@triton.jit
def metric_rows(data, mu_eq, mu_in, cfg: tl.constexpr):
    """``E^2 / (c mu)``, the weight of each row's violation with these penalties: [M]."""
    low, high = sides(data, cfg)
    scale = row_vector(data, slots.E, cfg)
    return scale * scale / (number(data, slots.C_SCALE, cfg) * tl.where(low == high, mu_eq, mu_in))


@triton.jit
def set_omega(data, phase, cfg: tl.constexpr):
    """Writes the weight of each row's violation, in phase SHIFT that of its shift if it may shift."""
    weight = metric_rows(data, number(data, slots.MU_EQ, cfg), number(data, slots.MU_IN, cfg), cfg)
    if phase == numbers.Phase.SHIFT:
        soft = row_vector(data, slots.IS_HARD, cfg) == 0
        metric_shift = number(data, slots.SHIFT_UNIT, cfg) * row_vector(data, slots.SHIFT_WEIGHT, cfg)
        weight = tl.where(soft, metric_shift, weight)
    put_rows(data, slots.OMEGA, weight, cfg)


@triton.jit
def multipliers(data, phase, cfg: tl.constexpr):
    """The accepted multipliers [M]; in phase SHIFT only hard rows have some, those of a start wait in slot Z_K."""
    waiting = (phase == numbers.Phase.SHIFT) & (row_vector(data, slots.IS_HARD, cfg) == 0)
    return tl.where(waiting, 0.0, row_vector(data, slots.Z_K, cfg))


@triton.jit
def curved(st):
    """Whether the cost has its H."""
    return (st.phase == numbers.Phase.AS_POSED) | (st.phase == numbers.Phase.SHIFTED)
