"""The iteration of ADMM for problems that share their matrices: one program takes a tile of them.

As ``kernels/reference/splitting.py`` has it. The inverse and the rows stay on the chip, and an iteration is three
products of matrices: in double precision by the tensor cores, in single precision as its name says ("ieee", on the
ordinary units, or "tf32x3", three products of the tensor cores for one). With arrays in float32 no instruction is in
double precision.
"""

import triton
import triton.language as tl

from .vectors import INF


@triton.jit
def tile(pointer, first, count, offset, stride, width, other, T: tl.constexpr, N: tl.constexpr):
    """Entries ``offset`` to ``offset + width`` of the vectors of a tile of problems: [T, N]."""
    b, j = first + tl.arange(0, T), tl.arange(0, N)
    inside = (b[:, None] < count) & (j[None, :] < width)
    return tl.load(pointer + b[:, None] * stride + (offset + j[None, :]), mask=inside, other=other)


@triton.jit
def put_tile(pointer, value, first, count, offset, stride, width, T: tl.constexpr, N: tl.constexpr):
    """Writes what :func:`tile` reads."""
    b, j = first + tl.arange(0, T), tl.arange(0, N)
    inside = (b[:, None] < count) & (j[None, :] < width)
    tl.store(pointer + b[:, None] * stride + (offset + j[None, :]), value, mask=inside)


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
def within(moved, z, dz, rho, lo, hi):
    """The rows within their sides, and by how much the multipliers have moved."""
    free = moved + (z + dz) / rho
    v = tl.minimum(tl.maximum(free, lo), hi)
    return v, tl.where(v == free, -z, dz + rho * (moved - v))


@triton.jit(do_not_specialize=["batch", "n", "k", "count"])
def iterate_kernel(
    inverse_ptr,  # [n, n] of K
    rows_ptr,  # [k, n] the stored rows
    rho_ptr,  # [m], m = k, and n more where x is bounded
    sigma_ptr,  # [n]
    dual_ptr,  # [B, n] H x + g + G'z
    z_ptr,  # [B, m]
    v_ptr,  # [B, m] and the rest: next to G x
    lo_ptr,  # [B, m]
    hi_ptr,  # [B, m]
    dx_out,  # [B, n] output
    dz_out,  # [B, m] output
    v_out,  # [B, m] output
    batch,
    n,
    k,
    count,  # of iterations
    alpha: tl.constexpr,  # over-relaxation
    bounded: tl.constexpr,
    T: tl.constexpr,  # problems of a program
    N: tl.constexpr,  # n and k rounded up
    M: tl.constexpr,
    precision: tl.constexpr,  # of the products
):
    """``count`` iterations for problems T ``program_id(0)`` and on."""
    first = tl.program_id(0).to(tl.int64) * T
    m = k + n if bounded else k
    kind = dual_ptr.dtype.element_ty
    beta: tl.constexpr = 1 - alpha
    inverse, G = matrix(inverse_ptr, n, n, N, N), matrix(rows_ptr, k, n, M, N)
    rho, sigma = weights(rho_ptr, k, M), weights(sigma_ptr, n, N)
    dual = tile(dual_ptr, first, batch, 0, n, n, 0.0, T, N)
    z, v = tile(z_ptr, first, batch, 0, m, k, 0.0, T, M), tile(v_ptr, first, batch, 0, m, k, 0.0, T, M)
    lo, hi = tile(lo_ptr, first, batch, 0, m, k, -INF, T, M), tile(hi_ptr, first, batch, 0, m, k, INF, T, M)
    dx, dz = tl.zeros((T, N), kind), tl.zeros((T, M), kind)
    if bounded:
        rho_x, z_x = weights(rho_ptr + k, n, N), tile(z_ptr, first, batch, k, m, n, 0.0, T, N)
        lo_x, hi_x = tile(lo_ptr, first, batch, k, m, n, -INF, T, N), tile(hi_ptr, first, batch, k, m, n, INF, T, N)
        v_x, dz_x = tile(v_ptr, first, batch, k, m, n, 0.0, T, N), tl.zeros((T, N), kind)
    for _ in range(count):
        push = sigma * dx - dual + tl.dot(rho * v - dz, G, input_precision=precision, out_dtype=kind)
        if bounded:
            push += rho_x * v_x - dz_x
        step = tl.dot(push, inverse, input_precision=precision, out_dtype=kind)
        dx = alpha * step + beta * dx
        moved = alpha * tl.dot(step, tl.trans(G), input_precision=precision, out_dtype=kind) + beta * v
        v, dz = within(moved, z, dz, rho, lo, hi)
        if bounded:
            v_x, dz_x = within(alpha * step + beta * v_x, z_x, dz_x, rho_x, lo_x, hi_x)
    put_tile(dx_out, dx, first, batch, 0, n, n, T, N)
    put_tile(dz_out, dz, first, batch, 0, m, k, T, M)
    put_tile(v_out, v, first, batch, 0, m, k, T, M)
    if bounded:
        put_tile(dz_out, dz_x, first, batch, k, m, n, T, N)
        put_tile(v_out, v_x, first, batch, k, m, n, T, N)
