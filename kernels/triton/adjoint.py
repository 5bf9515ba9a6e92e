"""The adjoint kernel: one program finds the adjoint vectors of one problem, as the reference's adjoint.py does.

A feasible problem takes one factorization, an infeasible one three (and a fourth where there are hard rows). Every
solve is refined with residuals taken with H and G.
"""

import triton
import triton.language as tl

from .. import numbers
from ..interface import Adjoint, Vectors
from . import slots
from .least_squares import fit, shifted_rows
from .problem import count_rows, data_of, load_vectors
from .products import columns_of, columns_product, row_product
from .scaling import measure_scaling
from .scratch import (
    column_vector,
    columns_at,
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
from .system import factor, solution
from .vectors import INF, largest, some


@triton.jit
def factor_saddle_point(data, cfg: tl.constexpr):
    """The factor of ``H + rho P + G'diag(t)G``, with a larger rho where that is not definite."""
    one = 0.0 * number(data, slots.C_SCALE, cfg) + 1.0
    rho, definite, factors = one * numbers.ADJOINT_RHO, one < 0, 0
    while (definite == 0) & (factors < numbers.ADJOINT_FACTORS):
        definite = factor(data, one, rho, cfg)
        rho *= numbers.ADJOINT_RHO_GROWTH
        factors += 1


@triton.jit(noinline=True)
def saddle_point(data, cfg: tl.constexpr):
    """Solves ``H b + G_S'q = r, G_S b = target`` on the rows S = W + K; r in slot RIGHT, b in X, q in Q.

    A proximal method of multipliers with one factor; the last step, taken back once for each pass, is the part along
    the null space of a singular system. The rows of S are those with weights in slot ROW_WEIGHT.
    """
    tl.debug_barrier()
    c, r = number(data, slots.C_SCALE, cfg), column_vector(data, slots.RIGHT, cfg)
    step, q_step = 0.0 * r, 0.0 * row_vector(data, slots.ROW_WEIGHT, cfg)
    put_columns(data, slots.X, step, cfg)
    put_rows(data, slots.Q, q_step, cfg)
    put_rows(data, slots.V, -row_vector(data, slots.TARGET, cfg), cfg)
    factor_saddle_point(data, cfg)
    moving, passes = c > 0, 0
    while moving & (passes < numbers.ADJOINT_PASSES):
        weight, v = row_vector(data, slots.ROW_WEIGHT, cfg), row_vector(data, slots.V, cfg)
        put_rows(data, slots.PULL, row_vector(data, slots.Q, cfg) + weight * v, cfg)
        residual = r - columns_of(data, slots.PULL, cfg)
        if cfg.has_h:
            residual -= columns_product(data.H, data.n, columns_at(data, slots.X, cfg), cfg)  # H is symmetric
        step = solution(data, residual, cfg)
        put_columns(data, slots.DX, step, cfg)
        row_product(data, slots.DX, slots.GDX, cfg)
        v += tl.where(weight > 0, row_vector(data, slots.GDX, cfg), 0.0)
        q_step = weight * v
        b, q = column_vector(data, slots.X, cfg) + step, row_vector(data, slots.Q, cfg) + q_step
        put_rows(data, slots.V, v, cfg)
        put_columns(data, slots.X, b, cfg)
        put_rows(data, slots.Q, q, cfg)
        columns, rows = column_vector(data, slots.D, cfg), row_vector(data, slots.E, cfg)
        size = largest(b / columns) + largest(c * q / rows)
        moving = largest(step / columns) + largest(c * q_step / rows) > size * numbers.ADJOINT_ACCURACY
        passes += 1
    put_columns(data, slots.X, column_vector(data, slots.X, cfg) - passes * step, cfg)
    put_rows(data, slots.Q, row_vector(data, slots.Q, cfg) - passes * q_step, cfg)


@triton.jit
def set_row_weights(data, in_W, in_K, cfg: tl.constexpr):
    """Writes the weights of the rows of W, which are those of their shifts, and of K."""
    scale, c = row_vector(data, slots.E, cfg), number(data, slots.C_SCALE, cfg)
    shifted = row_vector(data, slots.SHIFT_WEIGHT, cfg) * number(data, slots.SHIFT_UNIT, cfg)
    weight = tl.where(in_W, shifted, tl.where(in_K, scale * scale / c, 0.0))
    put_rows(data, slots.ROW_WEIGHT, weight * (1 / numbers.ADJOINT_MU), cfg)


@triton.jit
def cleared(data, grad, result, cfg: tl.constexpr):
    """Writes zeros to the result; returns whether some cotangent is not zero."""
    m = count_rows(data, cfg)
    x, z, s = get(grad.x, cfg.n, 0.0, cfg.N), get(grad.z, m, 0.0, cfg.M), get(grad.s, m, 0.0, cfg.M)
    put(result.b_x, 0.0 * x, cfg.n, cfg.N)
    put(result.p, 0.0 * z, m, cfg.M)
    put(result.z, 0.0 * z, m, cfg.M)
    put(result.ws, 0.0 * z, m, cfg.M)
    put(result.b_s, 0.0 * x, cfg.n, cfg.N)
    put(result.q_z, 0.0 * z, m, cfg.M)
    put(result.b_z, 0.0 * x, cfg.n, cfg.N)
    return some(x != 0) | some(z != 0) | some(s != 0)


@triton.jit
def write_multipliers(data, infeasible, grad, result, cfg: tl.constexpr):
    """Writes z and w s and, of an infeasible problem, b_z and q_z; FITTED gets the part of grad_z in W's range.

    The multipliers of W are those of least norm, ``w P b`` with b fitted to ``P b = z / w`` on the rows P that push.
    """
    m = count_rows(data, cfg)
    in_W, w = row_vector(data, slots.IN_W, cfg) != 0, row_vector(data, slots.SHIFT_WEIGHT, cfg)
    z = row_vector(data, slots.Z, cfg)
    put(result.ws, w * row_vector(data, slots.S_W, cfg), m, cfg.M)
    if infeasible:
        equality = row_vector(data, slots.LOW, cfg) == row_vector(data, slots.HIGH, cfg)
        pushes = in_W & (equality | (z != 0))
        put_rows(data, slots.PUSHES, pushes.to(tl.float64), cfg)
        put_rows(data, slots.TARGET, z / w, cfg)
        fit(data, slots.PUSHES, cfg)
        fitted = tl.where(row_vector(data, slots.PUSHES, cfg) != 0, w * row_vector(data, slots.FITTED, cfg), 0.0)
        z = tl.where(in_W, fitted, z)
        put(result.b_z, column_vector(data, slots.BETA, cfg), cfg.n, cfg.N)
        grad_z = get(grad.z, m, 0.0, cfg.M)
        put_rows(data, slots.TARGET, grad_z, cfg)
        fit(data, slots.PUSHES, cfg)
        rest = grad_z - row_vector(data, slots.FITTED, cfg)
        put(result.q_z, tl.where(row_vector(data, slots.PUSHES, cfg) != 0, w * rest, 0.0), m, cfg.M)
    put(result.z, z, m, cfg.M)


@triton.jit
def least_multiplier(data, cfg: tl.constexpr):
    """What the tolerances tell from zero, of ``|z / E|``."""
    D = tl.where(tl.arange(0, cfg.N) < cfg.n, column_vector(data, slots.D, cfg), INF)
    rounding = largest(row_vector(data, slots.Z, cfg) / row_vector(data, slots.E, cfg)) * numbers.ROUNDING
    return rounding + number(data, slots.EPS_ABS, cfg) * tl.min(D, axis=0)


@triton.jit
def pull_back(data, infeasible, grad, result, cfg: tl.constexpr):
    """Writes b_x, p and, of an infeasible problem, b_s, from the saddle point of the cotangents.

    Of grad_z on W it takes the part in FITTED; b_s is fitted to ``w W b_s = q_W + grad_s``.
    """
    m = count_rows(data, cfg)
    in_W, z = row_vector(data, slots.IN_W, cfg) != 0, row_vector(data, slots.Z, cfg)
    equality = row_vector(data, slots.LOW, cfg) == row_vector(data, slots.HIGH, cfg)
    in_K = (in_W == 0) & (equality | (tl.abs(z / row_vector(data, slots.E, cfg)) > least_multiplier(data, cfg)))
    grad_z = tl.where(in_K, get(grad.z, m, 0.0, cfg.M), 0.0)
    put_rows(data, slots.TARGET, tl.where(in_W, row_vector(data, slots.FITTED, cfg), grad_z), cfg)
    set_row_weights(data, in_W, in_K, cfg)
    put_columns(data, slots.RIGHT, get(grad.x, cfg.n, 0.0, cfg.N), cfg)
    saddle_point(data, cfg)
    put(result.b_x, column_vector(data, slots.X, cfg), cfg.n, cfg.N)
    put(result.p, row_vector(data, slots.Q, cfg), m, cfg.M)
    if infeasible:
        put_rows(data, slots.TARGET, get(grad.s, m, 0.0, cfg.M) / row_vector(data, slots.SHIFT_WEIGHT, cfg), cfg)
        fit(data, slots.IN_W, cfg)
        w, q, grad_s = (
            row_vector(data, slots.SHIFT_WEIGHT, cfg),
            row_vector(data, slots.Q, cfg),
            get(grad.s, m, 0.0, cfg.M),
        )
        followed = w * row_vector(data, slots.FITTED, cfg) - grad_s
        put(result.p, q + tl.where(row_vector(data, slots.IN_W, cfg) != 0, followed, 0.0), m, cfg.M)
        put_rows(data, slots.TARGET, (q + grad_s) / w, cfg)
        fit(data, slots.IN_W, cfg)
        put(result.b_s, column_vector(data, slots.BETA, cfg), cfg.n, cfg.N)


@triton.jit(do_not_specialize=["parts", "batched", "order", "n_eq", "n_in", "equilibrate"])
def adjoint_kernel(
    arrays,  # of pointers: Arrays
    at,  # Vectors [B, .], the answer
    grad,  # Vectors [B, .], its cotangents
    result,  # Adjoint, the output
    scratch,  # [parts, scratch_size(N, M)]
    taken,  # [parts] int32: 1 for the parts of the scratch that programs use, at first none
    parts,
    batched,  # bit k: whether array k has a batch
    order,  # n
    n_eq,
    n_in,
    equilibrate,  # 1 or 0
    eps_abs: tl.float64,
    cfg: tl.constexpr,
):
    """The adjoint vectors of problem ``program_id(0)``; zeros where its cotangents are."""
    b = tl.program_id(0).to(tl.int64)
    part = take_part(taken, parts)
    data = data_of(arrays, scratch, part, b, batched, order, n_eq, n_in, cfg)
    m = count_rows(data, cfg)
    of_x, of_rows = b * cfg.n, b * m
    grad = Vectors(grad.x + of_x, grad.z + of_rows, grad.s + of_rows)
    result = Adjoint(
        result.b_x + of_x,
        result.p + of_rows,
        result.z + of_rows,
        result.ws + of_rows,
        result.b_s + of_x,
        result.q_z + of_rows,
        result.b_z + of_x,
    )
    if cleared(data, grad, result, cfg):
        load_vectors(data, arrays, b, batched, cfg)
        put_number(data, slots.EPS_ABS, eps_abs, cfg)
        put_columns(data, slots.X, get(at.x + of_x, cfg.n, 0.0, cfg.N), cfg)
        put_rows(data, slots.Z, get(at.z + of_rows, m, 0.0, cfg.M), cfg)
        put_rows(data, slots.S, get(at.s + of_rows, m, 0.0, cfg.M), cfg)
        measure_scaling(data, equilibrate, cfg)
        infeasible = shifted_rows(data, cfg)
        write_multipliers(data, infeasible, grad, result, cfg)
        pull_back(data, infeasible, grad, result, cfg)
    give_back(taken, part)
