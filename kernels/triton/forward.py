"""The forward kernel: one program solves one problem from start to finish, all three phases in one loop."""

import triton
import triton.language as tl

from .newton import newton_step
from .outer import FIRST_ETA_OUT, measure, outer_step, verdict
from .problem import (
    INF,
    MAX_ITERATIONS,
    NUMERICAL_ERROR,
    RUNNING,
    SHIFT,
    VECTORS_M,
    VECTORS_N,
    Data,
    State,
    column_vector,
    row_vector,
)
from .products import all_rows_product, put, rows_product


@triton.jit
def data_of(
    b,  # the problem, int64
    H_ptr,
    A_ptr,
    C_ptr,
    g_ptr,
    D_ptr,
    E_ptr,
    c_ptr,
    unit_ptr,
    lo_ptr,
    hi_ptr,
    w_ptr,
    hard_ptr,
    scratch_ptr,
    batched,  # bit k: whether the array k of the ten above w has a batch
    order,  # n
    n_eq,
    n_in,
    cfg: tl.constexpr,
):
    """The arrays of problem b; what is shared is at the same place for each."""
    n: tl.constexpr = cfg.n
    m = n_eq + n_in + (n if cfg.bounded else 0)
    x = scratch_ptr + b * (VECTORS_N * cfg.N + VECTORS_M * cfg.M)
    z = x + VECTORS_N * cfg.N
    return Data(
        H_ptr + b * (batched & 1) * (n * n),
        A_ptr + b * ((batched >> 1) & 1) * (n_eq * n),
        C_ptr + b * ((batched >> 2) & 1) * (n_in * n),
        g_ptr + b * ((batched >> 3) & 1) * n,
        D_ptr + b * ((batched >> 4) & 1) * n,
        E_ptr + b * ((batched >> 5) & 1) * m,
        lo_ptr + b * ((batched >> 8) & 1) * m,
        hi_ptr + b * ((batched >> 9) & 1) * m,
        w_ptr,
        hard_ptr,
        order,
        n_eq,
        n_in,
        m,
        tl.load(c_ptr + b * ((batched >> 6) & 1)),
        tl.load(unit_ptr + b * ((batched >> 7) & 1)),
        x,
        x + cfg.N,
        x + 2 * cfg.N,
        x + 3 * cfg.N,
        x + 4 * cfg.N,
        z,
        z + cfg.M,
        z + 2 * cfg.M,
        z + 3 * cfg.M,
        z + 4 * cfg.M,
        z + 5 * cfg.M,
        z + 6 * cfg.M,
        z + 7 * cfg.M,
    )


@triton.jit
def begin(data, x0_ptr, z0_ptr, phase, cfg: tl.constexpr):
    """The first iterate, in scratch, and the state there."""
    index, rows = tl.arange(0, cfg.N), tl.arange(0, cfg.M)
    x = tl.load(x0_ptr + index, mask=index < cfg.n, other=0.0)
    z = tl.load(z0_ptr + rows, mask=rows < data.m, other=0.0)
    put(data.x, x, cfg.n, cfg.N)
    put(data.x_k, x, cfg.n, cfg.N)
    put(data.z, z, data.m, cfg.M)
    put(data.z_k, z, data.m, cfg.M)
    put(data.s, 0.0 * z, data.m, cfg.M)
    put(data.Hx, 0.0 * x, cfg.n, cfg.N)
    put(data.Hdx, 0.0 * x, cfg.n, cfg.N)
    if cfg.has_h:
        rows_product(data.H, data.n, x, 0.0 * x, data.Hx, data.Hdx, cfg.n, cfg.N, cfg.chunk)
    all_rows_product(
        data.A, data.C, data.n_eq, data.n_in, x, 0.0 * x, data.Gx, data.u, cfg.n, cfg.N, cfg.bounded, cfg.chunk
    )
    put(data.Hx_k, column_vector(data.Hx, cfg), cfg.n, cfg.N)
    put(data.Gx_k, row_vector(data.Gx, data, cfg), data.m, cfg.M)
    one, none = tl.full((), 1.0, tl.float64), phase * 0
    return State(
        phase,
        none + RUNNING,
        none,
        none,
        none,
        one * cfg.mu_eq,
        one * cfg.mu_in,
        one * cfg.rho,
        one * FIRST_ETA_OUT,
        one,
        one * INF,
        one * (cfg.mu_in**0.1),
        one * (cfg.mu_in**0.9),
    )


@triton.jit
def judged_state(st, at, max_iter):
    """The state with the verdict as its status."""
    return State(
        st.phase,
        verdict(st, at, max_iter),
        st.steps,
        st.entered,
        st.extra,
        st.mu_eq,
        st.mu_in,
        st.rho,
        st.eta_out,
        st.eta_in,
        st.primal_k,
        st.mu_tenth,
        st.mu_nine_tenths,
    )


@triton.jit(do_not_specialize=["batched", "order", "n_eq", "n_in", "max_iter"])
def forward_kernel(
    H_ptr,  # [B|1, n, n]
    A_ptr,  # [B|1, n_eq, n]
    C_ptr,  # [B|1, n_in, n]
    g_ptr,  # [B|1, n]
    D_ptr,  # [B|1, n]
    E_ptr,  # [B|1, m]
    c_ptr,  # [B|1]
    unit_ptr,  # [B|1]
    lo_ptr,  # [B|1, m]
    hi_ptr,  # [B|1, m]
    w_ptr,  # [m]
    hard_ptr,  # [m] int8
    x0_ptr,  # [B, n] where to start
    z0_ptr,  # [B, m]
    phase_ptr,  # [B] int32, -1 for a problem that is not solved at all
    scratch_ptr,  # [B, VECTORS_N N + VECTORS_M M]
    x_ptr,  # [B, n]: outputs from here on
    z_ptr,  # [B, m]
    s_ptr,  # [B, m]
    status_ptr,  # [B] int64
    steps_ptr,  # [B] int64
    primal_ptr,  # [B]
    dual_ptr,  # [B]
    gap_ptr,  # [B]
    batched,
    order,  # n
    n_eq,
    n_in,
    max_iter,
    cfg: tl.constexpr,
):
    """Solves problem ``program_id(0)``: ``lo + s <= G x <= hi + s`` with the least weighted s, see the reference."""
    b = tl.program_id(0).to(tl.int64)
    phase = tl.load(phase_ptr + b)
    if phase >= 0:
        data = data_of(
            b,
            H_ptr,
            A_ptr,
            C_ptr,
            g_ptr,
            D_ptr,
            E_ptr,
            c_ptr,
            unit_ptr,
            lo_ptr,
            hi_ptr,
            w_ptr,
            hard_ptr,
            scratch_ptr,
            batched,
            order,
            n_eq,
            n_in,
            cfg,
        )
        st = begin(data, x0_ptr + b * cfg.n, z0_ptr + b * data.m, phase, cfg)
        worst = st.primal_k
        running = phase >= 0
        while running:
            at = measure(data, st, cfg)
            better = (st.steps == 0) | ((at.worst < worst) & (st.phase != SHIFT))
            st = judged_state(st, at, max_iter)
            running = st.status == RUNNING
            early = (st.status == MAX_ITERATIONS) | (st.status == NUMERICAL_ERROR)
            if better | ((running == 0) & (early == 0)):  # one that stops early has its best iterate for an answer
                worst = at.worst
                put(x_ptr + b * cfg.n, column_vector(data.x, cfg), cfg.n, cfg.N)
                put(z_ptr + b * data.m, row_vector(data.z, data, cfg), data.m, cfg.M)
                put(s_ptr + b * data.m, row_vector(data.s, data, cfg), data.m, cfg.M)
                tl.store(primal_ptr + b, at.primal)
                tl.store(dual_ptr + b, at.dual)
                tl.store(gap_ptr + b, at.gap)
            if running:
                st = newton_step(data, outer_step(data, st, at, cfg), cfg)
        tl.store(status_ptr + b, st.status.to(tl.int64))
        tl.store(steps_ptr + b, st.steps.to(tl.int64))
