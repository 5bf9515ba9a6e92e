"""Products with the matrices of one problem, read from global memory in chunks of rows.

A matrix M is [count, n], row-major; a vector of rows lives in the program's scratch, as chunks of it are written and
read; a vector of columns is a register tensor [N], zero beyond n.
"""

import triton
import triton.language as tl

from . import slots
from .scratch import column_vector, columns_at, get, put, put_columns, rows_at

UPDATES = tl.constexpr(4)  # of K with one row each, unrolled; with more of them n = 64 spills


@triton.jit
def chunk_of(M_ptr, start, count, cfg: tl.constexpr):
    """Rows start, start + 1, ... of M: [CHUNK, N], zero beyond."""
    rows, columns = tl.arange(0, cfg.chunk)[:, None], tl.arange(0, cfg.N)[None, :]
    inside = (start + rows < count) & (columns < cfg.n)
    return tl.load(M_ptr + start * cfg.n + (rows * cfg.n + columns), mask=inside, other=0.0)


@triton.jit
def rows_product(M_ptr, count, x_ptr, y_ptr, Mx_ptr, My_ptr, cfg: tl.constexpr):
    """Writes ``M x`` and ``M y``, all in memory: [N], [N] -> [count] each."""
    index = tl.arange(0, cfg.N)
    x, y = tl.load(x_ptr + index), tl.load(y_ptr + index)
    tl.debug_barrier()
    for start in range(0, count, cfg.chunk):
        M = chunk_of(M_ptr, start, count, cfg)
        rows = start + tl.arange(0, cfg.chunk)
        tl.store(Mx_ptr + rows, tl.sum(M * x[None, :], axis=1), mask=rows < count)
        tl.store(My_ptr + rows, tl.sum(M * y[None, :], axis=1), mask=rows < count)
    tl.debug_barrier()


@triton.jit
def columns_product(M_ptr, count, z_ptr, cfg: tl.constexpr):
    """``M'z``: [count] in memory -> [N]."""
    N: tl.constexpr = cfg.N
    CHUNK: tl.constexpr = cfg.chunk
    total = tl.zeros((CHUNK, N), tl.float64)
    for start in range(0, count, cfg.chunk):
        rows = start + tl.arange(0, cfg.chunk)
        z = tl.load(z_ptr + rows, mask=rows < count, other=0.0)
        total = tl.fma(chunk_of(M_ptr, start, count, cfg), z[:, None], total)
    return tl.sum(total, axis=0)


@triton.jit
def gram(K, M_ptr, count, w_ptr, cfg: tl.constexpr):
    """``K + M' diag(w) M``: [N, N], [count] in memory -> [N, N], by rank-1 updates; chunks with w = 0 are skipped."""
    index = tl.arange(0, cfg.N)
    for start in range(0, count, UPDATES):
        rows = start + tl.arange(0, UPDATES)
        present = tl.load(w_ptr + rows, mask=rows < count, other=0.0)
        if tl.max(tl.abs(present), axis=0) > 0:
            for i in tl.static_range(UPDATES):
                w = tl.load(w_ptr + start + i, mask=start + i < count, other=0.0)
                line = M_ptr + (start + i) * cfg.n
                kept = tl.where(index < cfg.n, w, 0.0) != 0
                down = tl.load(line + index[:, None], mask=kept[:, None], other=0.0)
                across = tl.load(line + index[None, :], mask=kept[None, :], other=0.0)
                K = tl.fma(w * down, across, K)
    return K


@triton.jit(noinline=True)
def row_products(data, x_ptr, y_ptr, Gx_ptr, Gy_ptr, cfg: tl.constexpr):
    """Writes ``G x`` and ``G y`` of all rows G = [A; C; I], all in memory: [N], [N] -> [m] each."""
    tl.debug_barrier()
    rows_product(data.A, data.n_eq, x_ptr, y_ptr, Gx_ptr, Gy_ptr, cfg)
    rows_product(data.C, data.n_in, x_ptr, y_ptr, Gx_ptr + data.n_eq, Gy_ptr + data.n_eq, cfg)
    if cfg.bounded:
        bounds = data.n_eq + data.n_in
        put(Gx_ptr + bounds, get(x_ptr, cfg.n, 0.0, cfg.N), cfg.n, cfg.N)
        put(Gy_ptr + bounds, get(y_ptr, cfg.n, 0.0, cfg.N), cfg.n, cfg.N)


@triton.jit
def row_product(data, k, to, cfg: tl.constexpr):
    """Writes ``G x`` for x in slot k of columns to slot ``to`` of rows."""
    x_ptr, Gx_ptr = columns_at(data, k, cfg), rows_at(data, to, cfg)
    row_products(data, x_ptr, x_ptr, Gx_ptr, Gx_ptr, cfg)


@triton.jit
def products_at_x(data, cfg: tl.constexpr):
    """Writes ``H x`` and ``H dx``, ``G x`` and ``G dx``."""
    x_ptr, dx_ptr = columns_at(data, slots.X, cfg), columns_at(data, slots.DX, cfg)
    if cfg.has_h:
        Hx_ptr, Hdx_ptr = columns_at(data, slots.HX, cfg), columns_at(data, slots.HDX, cfg)
        rows_product(data.H, data.n, x_ptr, dx_ptr, Hx_ptr, Hdx_ptr, cfg)
    row_products(data, x_ptr, dx_ptr, rows_at(data, slots.GX, cfg), rows_at(data, slots.GDX, cfg), cfg)


@triton.jit(noinline=True)
def write_columns(data, z_ptr, cfg: tl.constexpr):
    """Writes ``G'z`` of all rows, [m] in memory, to slot GZ."""
    tl.debug_barrier()
    total = columns_product(data.A, data.n_eq, z_ptr, cfg)
    total += columns_product(data.C, data.n_in, z_ptr + data.n_eq, cfg)
    if cfg.bounded:
        total += get(z_ptr + (data.n_eq + data.n_in), cfg.n, 0.0, cfg.N)
    put_columns(data, slots.GZ, total, cfg)


@triton.jit
def columns_of(data, k, cfg: tl.constexpr):
    """``G'z`` for z in slot k of rows: [N]."""
    write_columns(data, rows_at(data, k, cfg), cfg)
    return column_vector(data, slots.GZ, cfg)


@triton.jit
def assembled(data, sigma, diagonal, cfg: tl.constexpr):
    """``K = sigma H + diag(diagonal) + G' diag(t) G`` with the weights t in slot ROW_WEIGHT: [N, N]."""
    index = tl.arange(0, cfg.N)
    weights = rows_at(data, slots.ROW_WEIGHT, cfg)
    if cfg.bounded:
        diagonal += get(weights + (data.n_eq + data.n_in), cfg.n, 0.0, cfg.N)  # the bounds are identity rows
    K = tl.where(index[:, None] == index[None, :], diagonal[None, :], 0.0)
    if cfg.has_h:
        inside = (index[:, None] < cfg.n) & (index[None, :] < cfg.n)
        K += sigma * tl.load(data.H + (index[:, None] * cfg.n + index[None, :]), mask=inside, other=0.0)
    K = gram(K, data.A, data.n_eq, weights, cfg)
    return gram(K, data.C, data.n_in, weights + data.n_eq, cfg)
