"""One problem as its program sees it: where its arrays are, its sizes, and what it keeps in scratch.

Vectors of rows are [M], vectors of columns [N]; N and M are powers of two. In scratch both are padded: rows beyond m
and columns beyond n weigh nothing. Only what one expression needs is in registers, as these limit how large n may be; K
and its factor are while it is factored or applied. For the same reason large functions are not inlined: the compiler
would compute the addresses and masks of all of them ahead of the loop, and spill. Arguments and results of such a
function can only be scalars.
"""

from typing import Any, NamedTuple

import triton
import triton.language as tl

from ..interface import Status as _Status
from ..reference import state as _state

AS_POSED = tl.constexpr(_state.AS_POSED)
SHIFT = tl.constexpr(_state.SHIFT)
SHIFTED = tl.constexpr(_state.SHIFTED)
DUAL = tl.constexpr(3)  # of the multipliers of shifted rows, see multipliers.py
RUNNING = tl.constexpr(_state.RUNNING)
SOLVED = tl.constexpr(int(_Status.SOLVED))
SOLVED_CLOSEST_FEASIBLE = tl.constexpr(int(_Status.SOLVED_CLOSEST_FEASIBLE))
MAX_ITERATIONS = tl.constexpr(int(_Status.MAX_ITERATIONS))
INFEASIBLE = tl.constexpr(int(_Status.INFEASIBLE))
UNBOUNDED = tl.constexpr(int(_Status.UNBOUNDED))
NONFINITE_INPUT = tl.constexpr(int(_Status.NONFINITE_INPUT))
NUMERICAL_ERROR = tl.constexpr(int(_Status.NUMERICAL_ERROR))
INF = tl.constexpr(float("inf"))

# Vectors of columns in scratch, by their place.
X = tl.constexpr(0)
X_K = tl.constexpr(1)
HX = tl.constexpr(2)
HX_K = tl.constexpr(3)
HDX = tl.constexpr(4)
G = tl.constexpr(5)  # of the cost
D = tl.constexpr(6)  # equilibration
PROX = tl.constexpr(7)  # 1 / (c D^2)
BETA = tl.constexpr(8)  # of a fit
R = tl.constexpr(9)  # a right-hand side
P = tl.constexpr(10)  # a direction of conjugate gradients
DX = tl.constexpr(11)  # a step
GZ = tl.constexpr(12)
G_POSED = tl.constexpr(13)
BEST_X = tl.constexpr(14)  # the best iterate so far, for a problem that stops early, and the answer
SCALE = tl.constexpr(15)  # of the factor
Y = tl.constexpr(16)  # a right-hand side, then its solution
COLUMNS = tl.constexpr(17)

# Vectors of rows, the same.
Z = tl.constexpr(0)
Z_K = tl.constexpr(1)
S = tl.constexpr(2)
GX = tl.constexpr(3)
GX_K = tl.constexpr(4)
LOW = tl.constexpr(5)  # the sides, shifted
HIGH = tl.constexpr(6)
W = tl.constexpr(7)
HARD = tl.constexpr(8)  # 1 where a row is never shifted
E = tl.constexpr(9)  # equilibration
OMEGA = tl.constexpr(10)
V = tl.constexpr(11)
T = tl.constexpr(12)  # the weights of the rows in K
U = tl.constexpr(13)  # temporary
GP = tl.constexpr(14)  # products with a step, or of conjugate gradients
IN_W = tl.constexpr(15)  # 1 where a row is among those that are shifted
S_W = tl.constexpr(16)  # their shifts
TARGET = tl.constexpr(17)
FITTED = tl.constexpr(18)
Q = tl.constexpr(19)
LO = tl.constexpr(20)  # the sides, as they are posed
HI = tl.constexpr(21)
BEST_Z = tl.constexpr(22)
BEST_S = tl.constexpr(23)
FACTORED = tl.constexpr(24)  # the weights t of the factor
ROWS = tl.constexpr(25)

# Numbers, the same.
EPS_ABS = tl.constexpr(0)
EPS_REL = tl.constexpr(1)
FIRST_MU_EQ = tl.constexpr(2)
FIRST_MU_IN = tl.constexpr(3)
FIRST_RHO = tl.constexpr(4)
CLOSEST_FEASIBLE = tl.constexpr(5)
C_SCALE = tl.constexpr(6)  # c, of the cost
UNIT = tl.constexpr(7)  # the weight in phase SHIFT of a row with w = 1
MU_EQ = tl.constexpr(8)  # up to EXTRA as those of the reference's State
MU_IN = tl.constexpr(9)
ETA_OUT = tl.constexpr(10)
ETA_IN = tl.constexpr(11)
PRIMAL_K = tl.constexpr(12)
ENTERED = tl.constexpr(13)
EXTRA = tl.constexpr(14)
BEST = tl.constexpr(15)  # of the best iterate: primal, dual, gap, and the worst of them next to its tolerance
SIGMA = tl.constexpr(19)  # of the factor
RHO = tl.constexpr(20)
DEFINITE = tl.constexpr(21)  # 1 where there is a factor
NUMBERS = tl.constexpr(22)


class Config(NamedTuple):
    """What a variant of a kernel is compiled for."""

    n: int
    N: int  # n rounded up to a power of two
    M: int  # the same of the rows
    chunk: int  # rows of a matrix read at once
    method: int  # of factor.py
    has_h: bool
    bounded: bool
    mixed: bool  # K in float32


class Data(NamedTuple):
    """Pointers to the arrays of one problem, and its sizes."""

    H: Any  # [n, n]
    A: Any  # [n_eq, n]
    C: Any  # [n_in, n]
    scratch: Any  # [COLUMNS N + ROWS M + N^2 + NUMBERS]
    n: Any  # at run time, as a known trip count would have the compiler unroll loops and spill
    n_eq: Any
    n_in: Any


class State(NamedTuple):
    """What a problem carries in registers from one Newton step to the next; the rest is in scratch."""

    phase: Any
    status: Any
    steps: Any
    rho: Any


def scratch_size(cfg: Config) -> int:
    """Numbers of scratch that one program needs."""
    return COLUMNS.value * cfg.N + ROWS.value * cfg.M + cfg.N * cfg.N + NUMBERS.value


@triton.jit
def at_problem(pointer, b, batched, k, size):
    """Where array k of problem b begins; bit k of ``batched`` says whether the array has a batch."""
    return pointer + b * ((batched >> k) & 1) * size


@triton.jit
def data_of(H_ptr, A_ptr, C_ptr, scratch_ptr, b, batched, order, n_eq, n_in, cfg: tl.constexpr):
    """Problem b of a batch, the first three arrays of which are H, A and C."""
    return Data(
        at_problem(H_ptr, b, batched, 0, cfg.n * cfg.n),
        at_problem(A_ptr, b, batched, 1, n_eq * cfg.n),
        at_problem(C_ptr, b, batched, 2, n_in * cfg.n),
        scratch_ptr + b * (COLUMNS * cfg.N + ROWS * cfg.M + cfg.N * cfg.N + NUMBERS),
        order,
        n_eq,
        n_in,
    )


@triton.jit
def count_rows(data, cfg: tl.constexpr):
    """M."""
    return data.n_eq + data.n_in + (cfg.n if cfg.bounded else 0)


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
    """Where vector k of columns is in scratch."""
    return data.scratch + k * cfg.N


@triton.jit
def rows_at(data, k, cfg: tl.constexpr):
    """Where vector k of rows is in scratch."""
    return data.scratch + (COLUMNS * cfg.N + k * cfg.M)


@triton.jit
def column_vector(data, k, cfg: tl.constexpr):
    """Vector k of columns: [N]."""
    return tl.load(columns_at(data, k, cfg) + tl.arange(0, cfg.N))


@triton.jit
def row_vector(data, k, cfg: tl.constexpr):
    """Vector k of rows: [M]."""
    return tl.load(rows_at(data, k, cfg) + tl.arange(0, cfg.M))


@triton.jit
def put_columns(data, k, value, cfg: tl.constexpr):
    """Writes vector k of columns."""
    put(columns_at(data, k, cfg), value, cfg.N, cfg.N)


@triton.jit
def put_rows(data, k, value, cfg: tl.constexpr):
    """Writes vector k of rows."""
    put(rows_at(data, k, cfg), value, cfg.M, cfg.M)


@triton.jit
def tile_at(data, cfg: tl.constexpr):
    """Where the entries of the factor are in scratch: [N, N]."""
    index = tl.arange(0, cfg.N)
    return data.scratch + (COLUMNS * cfg.N + ROWS * cfg.M) + (index[:, None] * cfg.N + index[None, :])


@triton.jit
def number_at(data, k, cfg: tl.constexpr):
    """Where number k is in scratch."""
    return data.scratch + (COLUMNS * cfg.N + ROWS * cfg.M + cfg.N * cfg.N + k)


@triton.jit
def number(data, k, cfg: tl.constexpr):
    """Number k."""
    return tl.load(number_at(data, k, cfg))


@triton.jit
def put_number(data, k, value, cfg: tl.constexpr):
    """Writes number k."""
    tl.debug_barrier()
    tl.store(number_at(data, k, cfg), tl.full((), value, tl.float64))
    tl.debug_barrier()


@triton.jit
def clear(data, cfg: tl.constexpr):
    """Fills the vectors in scratch with zeros."""
    count = COLUMNS * cfg.N + ROWS * cfg.M
    for start in range(0, count, cfg.M):
        index = start + tl.arange(0, cfg.M)
        tl.store(data.scratch + index, index * 0.0, mask=index < count)
    tl.debug_barrier()


@triton.jit
def largest(v):
    """``max |v_i|``."""
    return tl.max(tl.abs(v), axis=0)


@triton.jit
def some(condition):
    """Whether it holds for any entry."""
    return tl.max(condition.to(tl.int32), axis=0) > 0


@triton.jit
def clamped(v, lo, hi):
    """``clamp(v, lo, hi)``."""
    return tl.minimum(tl.maximum(v, lo), hi)


@triton.jit
def sides(data, cfg: tl.constexpr):
    """The sides after the shift: [M], [M], infinite beyond m."""
    return row_vector(data, LOW, cfg), row_vector(data, HIGH, cfg)


@triton.jit
def shift_sides(data, s, cfg: tl.constexpr):
    """Moves the sides by the shift s [M]. A row that is shifted becomes an equality."""
    low, high = sides(data, cfg)
    put_rows(data, LOW, tl.where(s > 0, high, low) + s, cfg)
    put_rows(data, HIGH, tl.where(s < 0, low, high) + s, cfg)


@triton.jit
def set_omega(data, st, cfg: tl.constexpr):
    """Writes the weight of each row's violation: ``E^2 / (c mu)``, in phase SHIFT that of its shift if it may shift."""
    low, high = sides(data, cfg)
    scale = row_vector(data, E, cfg)
    mu = tl.where(low == high, number(data, MU_EQ, cfg), number(data, MU_IN, cfg))
    weight = scale * scale / (number(data, C_SCALE, cfg) * mu)
    if st.phase == SHIFT:
        soft = row_vector(data, HARD, cfg) == 0
        weight = tl.where(soft, number(data, UNIT, cfg) * row_vector(data, W, cfg), weight)
    put_rows(data, OMEGA, weight, cfg)


@triton.jit
def curved(st):
    """Whether the cost counts."""
    return (st.phase == AS_POSED) | (st.phase == SHIFTED)


@triton.jit
def cost_gradient(data, st, cfg: tl.constexpr):
    """``sigma (H x + g)``, in phase DUAL g: [N]."""
    Hx = tl.where(curved(st), column_vector(data, HX, cfg), 0.0)
    return tl.where(st.phase == SHIFT, 0.0, Hx + column_vector(data, G, cfg))
