"""The forward kernel: one program solves one problem from start to finish, all its phases in one loop."""

import triton
import triton.language as tl

from .multipliers import settle_multipliers
from .newton import newton_step
from .outer import measure, outer_step, set_centre, verdict
from .problem import (
    AS_POSED,
    BEST,
    BEST_S,
    BEST_X,
    BEST_Z,
    CLOSEST_FEASIBLE,
    EPS_ABS,
    EPS_REL,
    FIRST_MU_EQ,
    FIRST_MU_IN,
    FIRST_RHO,
    INF,
    MAX_ITERATIONS,
    NONFINITE_INPUT,
    NUMERICAL_ERROR,
    RUNNING,
    SHIFT,
    SOLVED_CLOSEST_FEASIBLE,
    Z_K,
    S,
    State,
    X,
    Z,
    at_problem,
    column_vector,
    count_rows,
    data_of,
    get,
    number,
    put,
    put_columns,
    put_number,
    put_rows,
    row_vector,
    set_omega,
    some,
)
from .scaling import measure_scaling
from .start import begin_at_x, first_state, load_problem, usable


@triton.jit
def begin(data, x, z, s, equilibrate, cfg: tl.constexpr):
    """The first iterate, in scratch, and the state there: an answer that was shifted searches its shift first."""
    measure_scaling(data, equilibrate, cfg)
    shifted = some(s != 0)
    z = tl.where(shifted, 0.0, z)
    put_columns(data, X, x, cfg)
    put_rows(data, Z, z, cfg)
    put_rows(data, Z_K, z, cfg)
    begin_at_x(data, cfg)
    set_centre(data, cfg)
    st = first_state(data, tl.where(shifted, SHIFT, AS_POSED), cfg)
    set_omega(data, st, cfg)
    return with_status(st, tl.where(usable(data, cfg), RUNNING, NONFINITE_INPUT))


@triton.jit
def with_status(st, status):
    """The state with another status."""
    return State(st.phase, status, st.steps, st.rho)


@triton.jit
def keep(data, at, cfg: tl.constexpr):
    """Makes the present iterate the answer: the last one, or the best so far where the problem stops early."""
    put_columns(data, BEST_X, column_vector(data, X, cfg), cfg)
    put_rows(data, BEST_Z, row_vector(data, Z, cfg), cfg)
    put_rows(data, BEST_S, row_vector(data, S, cfg), cfg)
    put_number(data, BEST, at.primal, cfg)
    put_number(data, BEST + 1, at.dual, cfg)
    put_number(data, BEST + 2, at.gap, cfg)
    put_number(data, BEST + 3, at.worst, cfg)


@triton.jit
def iterate(data, st, max_iter, cfg: tl.constexpr):
    """Steps until the problem has ended, and keeps the answer: the state then."""
    running = st.status == RUNNING
    while running:
        at = measure(data, st, cfg)
        better = (st.steps == 0) | ((at.worst < number(data, BEST + 3, cfg)) & (st.phase != SHIFT))
        st = with_status(st, verdict(data, st, at, max_iter, cfg))
        running = st.status == RUNNING
        early = (st.status == MAX_ITERATIONS) | (st.status == NUMERICAL_ERROR)
        if better | ((running == 0) & (early == 0)):
            keep(data, at, cfg)
        if running:
            st = newton_step(data, outer_step(data, st, at, cfg), cfg)
    return st


@triton.jit(do_not_specialize=["batched", "order", "n_eq", "n_in", "max_iter", "equilibrate", "closest", "again"])
def forward_kernel(
    H_ptr,  # [B|1, n, n]
    A_ptr,  # [B|1, n_eq, n]
    C_ptr,  # [B|1, n_in, n]
    g_ptr,  # [B|1, n]
    lo_ptr,  # [B|1, m]
    hi_ptr,  # [B|1, m]
    x0_ptr,  # [B|1, n] where to start
    z0_ptr,  # [B|1, m]
    s0_ptr,  # [B|1, m]
    w_ptr,  # [m]
    hard_ptr,  # [m] bool
    scratch_ptr,  # [B, scratch_size(cfg)]
    x_ptr,  # [B, n]: outputs from here on
    z_ptr,  # [B, m]
    s_ptr,  # [B, m]
    status_ptr,  # [B] int64
    steps_ptr,  # [B] int64
    primal_ptr,  # [B]
    dual_ptr,  # [B]
    gap_ptr,  # [B]
    batched,  # bit k: whether array k of the first nine has a batch
    order,  # n
    n_eq,
    n_in,
    max_iter,
    equilibrate,  # 1 or 0
    closest,  # 1 or 0: whether the closest feasible problem is wanted
    again,  # 1 or 0: whether only what stopped early is solved, and its steps are added
    eps_abs: tl.float64,
    eps_rel: tl.float64,
    mu_eq: tl.float64,
    mu_in: tl.float64,
    rho: tl.float64,
    cfg: tl.constexpr,
):
    """Solves problem ``program_id(0)``: ``lo + s <= G x <= hi + s`` with the least weighted s, see the reference."""
    b = tl.program_id(0).to(tl.int64)
    status = tl.load(status_ptr + b, mask=again != 0, other=MAX_ITERATIONS)
    if (status == MAX_ITERATIONS) | (status == NUMERICAL_ERROR):
        n: tl.constexpr = cfg.n
        data = data_of(H_ptr, A_ptr, C_ptr, scratch_ptr, b, batched, order, n_eq, n_in, cfg)
        m = count_rows(data, cfg)
        g = at_problem(g_ptr, b, batched, 3, n)
        lo, hi = at_problem(lo_ptr, b, batched, 4, m), at_problem(hi_ptr, b, batched, 5, m)
        load_problem(data, g, lo, hi, w_ptr, hard_ptr, cfg)
        put_number(data, EPS_ABS, eps_abs, cfg)
        put_number(data, EPS_REL, eps_rel, cfg)
        put_number(data, FIRST_MU_EQ, mu_eq, cfg)
        put_number(data, FIRST_MU_IN, mu_in, cfg)
        put_number(data, FIRST_RHO, rho, cfg)
        put_number(data, CLOSEST_FEASIBLE, closest.to(tl.float64), cfg)
        x = get(at_problem(x0_ptr, b, batched, 6, n), n, 0.0, cfg.N)
        z = get(at_problem(z0_ptr, b, batched, 7, m), m, 0.0, cfg.M)
        s = get(at_problem(s0_ptr, b, batched, 8, m), m, 0.0, cfg.M)
        st = iterate(data, begin(data, x, z, s, equilibrate, cfg), max_iter, cfg)
        if st.status == SOLVED_CLOSEST_FEASIBLE:
            settle_multipliers(data, cfg)
        unknown = tl.where(st.status == NONFINITE_INPUT, tl.full((), INF - INF, tl.float64), 0.0)
        put(x_ptr + b * n, column_vector(data, BEST_X, cfg) + unknown, n, cfg.N)
        put(z_ptr + b * m, row_vector(data, BEST_Z, cfg) + unknown, m, cfg.M)
        put(s_ptr + b * m, row_vector(data, BEST_S, cfg) + unknown, m, cfg.M)
        tl.store(status_ptr + b, st.status.to(tl.int64))
        tl.store(steps_ptr + b, st.steps + tl.load(steps_ptr + b, mask=again != 0, other=0))
        tl.store(primal_ptr + b, number(data, BEST, cfg) + unknown)
        tl.store(dual_ptr + b, number(data, BEST + 1, cfg) + unknown)
        tl.store(gap_ptr + b, number(data, BEST + 2, cfg) + unknown)
