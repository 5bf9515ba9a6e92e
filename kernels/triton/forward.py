"""The forward kernel: one program solves one problem from start to finish, all its phases in one loop."""

import triton
import triton.language as tl

from .. import numbers
from . import slots
from .measure import measure
from .multipliers import settle_multipliers
from .newton import newton_step
from .outer import outer_step, verdict
from .problem import at_problem, count_rows, data_of, load_vectors, with_status
from .scratch import (
    column_vector,
    get,
    give_back,
    number,
    put,
    put_columns,
    put_number,
    put_rows,
    row_vector,
    take_part,
)
from .start import begin
from .vectors import INF


@triton.jit
def keep(data, at, cfg: tl.constexpr):
    """Makes the present iterate the answer: the last one, or the best so far where the problem stops early."""
    put_columns(data, slots.BEST_X, column_vector(data, slots.X, cfg), cfg)
    put_rows(data, slots.BEST_Z, row_vector(data, slots.Z, cfg), cfg)
    put_rows(data, slots.BEST_S, row_vector(data, slots.S, cfg), cfg)
    put_number(data, slots.BEST_PRIMAL, at.primal, cfg)
    put_number(data, slots.BEST_DUAL, at.dual, cfg)
    put_number(data, slots.BEST_GAP, at.gap, cfg)
    put_number(data, slots.BEST_WORST, at.worst, cfg)


@triton.jit
def iterate(data, st, max_iter, cfg: tl.constexpr):
    """Steps until the problem has ended, and keeps the answer: the state then."""
    running = st.status == numbers.RUNNING
    while running:
        at = measure(data, st, cfg)
        improved = (at.worst < number(data, slots.BEST_WORST, cfg)) & (st.phase != numbers.Phase.SHIFT)
        if (st.steps == 0) | improved:
            keep(data, at, cfg)
        st = with_status(st, verdict(data, st, at, max_iter, cfg))
        if st.status == numbers.RUNNING:
            st = outer_step(data, st, at, cfg)
        running = st.status == numbers.RUNNING
        early = (st.status == numbers.Status.MAX_ITERATIONS) | (st.status == numbers.Status.NUMERICAL_ERROR)
        if running:
            st = newton_step(data, st, cfg)
        elif early == 0:
            keep(data, at, cfg)
    return st


@triton.jit
def write_answer(data, st, answer, b, cfg: tl.constexpr):
    """Writes what was kept, and NaN where the problem could not be begun."""
    m = count_rows(data, cfg)
    unknown = tl.where(st.status == numbers.Status.NONFINITE_INPUT, tl.full((), INF - INF, tl.float64), 0.0)
    put(answer.x + b * cfg.n, column_vector(data, slots.BEST_X, cfg) + unknown, cfg.n, cfg.N)
    put(answer.z + b * m, row_vector(data, slots.BEST_Z, cfg) + unknown, m, cfg.M)
    put(answer.s + b * m, row_vector(data, slots.BEST_S, cfg) + unknown, m, cfg.M)
    tl.store(answer.status + b, st.status.to(tl.int64))
    tl.store(answer.iterations + b, st.steps.to(tl.int64))
    tl.store(answer.primal + b, number(data, slots.BEST_PRIMAL, cfg) + unknown)
    tl.store(answer.dual + b, number(data, slots.BEST_DUAL, cfg) + unknown)
    tl.store(answer.gap + b, number(data, slots.BEST_GAP, cfg) + unknown)


SIZES = ["parts", "batched", "order", "n_eq", "n_in", "max_iter", "equilibrate", "closest_feasible"]


@triton.jit(do_not_specialize=SIZES)
def forward_kernel(
    arrays,  # of pointers: Arrays
    start,  # Vectors [B|1, .], zeros where there is none
    answer,  # Answer, the output
    scratch,  # [parts, scratch_size(N, M)]
    taken,  # [parts] int32: 1 for the parts of the scratch that programs use, at first none
    parts,
    batched,  # bit k: whether array k has a batch, the arrays first and then the start
    order,  # n
    n_eq,
    n_in,
    max_iter,
    equilibrate,  # 1 or 0
    closest_feasible,  # 1 or 0
    eps_abs: tl.float64,
    eps_rel: tl.float64,
    mu_eq: tl.float64,
    mu_in: tl.float64,
    rho: tl.float64,
    cfg: tl.constexpr,
):
    """Solves problem ``program_id(0)``: ``lo + s <= G x <= hi + s`` with the least weighted s, see the reference."""
    b = tl.program_id(0).to(tl.int64)
    part = take_part(taken, parts)
    data = data_of(arrays, scratch, part, b, batched, order, n_eq, n_in, cfg)
    m = count_rows(data, cfg)
    load_vectors(data, arrays, b, batched, cfg)
    put_number(data, slots.EPS_ABS, eps_abs, cfg)
    put_number(data, slots.EPS_REL, eps_rel, cfg)
    put_number(data, slots.FIRST_MU_EQ, mu_eq, cfg)
    put_number(data, slots.FIRST_MU_IN, mu_in, cfg)
    put_number(data, slots.FIRST_RHO, rho, cfg)
    put_number(data, slots.CLOSEST_FEASIBLE, closest_feasible, cfg)
    x = get(at_problem(start.x, b, batched, 8, cfg.n), cfg.n, 0.0, cfg.N)
    z = get(at_problem(start.z, b, batched, 9, m), m, 0.0, cfg.M)
    s = get(at_problem(start.s, b, batched, 10, m), m, 0.0, cfg.M)
    st = iterate(data, begin(data, x, z, s, equilibrate, cfg), max_iter, cfg)
    if st.status == numbers.Status.SOLVED_CLOSEST_FEASIBLE:
        settle_multipliers(data, cfg)
    write_answer(data, st, answer, b, cfg)
    give_back(taken, part)
