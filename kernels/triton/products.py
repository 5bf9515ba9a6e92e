"""Products with the matrices of one problem, read from global memory in chunks of rows.

A matrix M is [count, n], row-major; a vector of rows lives in the program's scratch, as chunks of it are written and
read; a vector of columns is a register tensor [N], zero beyond n. ``put`` and :func:`rows_product` end with a barrier,
so that every thread sees what they have written.
"""

import triton
import triton.language as tl


@triton.jit
def put(pointer, value, count, SIZE: tl.constexpr):
    """Writes the first ``count`` entries of a vector [SIZE]; earlier reads and later reads are kept apart from it."""
    index = tl.arange(0, SIZE)
    tl.debug_barrier()
    tl.store(pointer + index, value, mask=index < count)
    tl.debug_barrier()


@triton.jit
def get(pointer, count, other, SIZE: tl.constexpr):
    """Reads a vector [SIZE], ``other`` from entry ``count`` on."""
    index = tl.arange(0, SIZE)
    return tl.load(pointer + index, mask=index < count, other=other)


@triton.jit
def chunk_of(M_ptr, start, count, n: tl.constexpr, N: tl.constexpr, CHUNK: tl.constexpr):
    """Rows start, start + 1, ... of M: [CHUNK, N], zero beyond."""
    rows, columns = tl.arange(0, CHUNK)[:, None], tl.arange(0, N)[None, :]
    return tl.load(M_ptr + start * n + (rows * n + columns), mask=(start + rows < count) & (columns < n), other=0.0)


@triton.jit
def rows_product(M_ptr, count, x, y, Mx_ptr, My_ptr, n: tl.constexpr, N: tl.constexpr, CHUNK: tl.constexpr):
    """Writes ``M x`` and ``M y``: [N], [N] -> [count] each."""
    tl.debug_barrier()
    for start in range(0, count, CHUNK):
        M = chunk_of(M_ptr, start, count, n, N, CHUNK)
        rows = start + tl.arange(0, CHUNK)
        tl.store(Mx_ptr + rows, tl.sum(M * x[None, :], axis=1), mask=rows < count)
        tl.store(My_ptr + rows, tl.sum(M * y[None, :], axis=1), mask=rows < count)
    tl.debug_barrier()


@triton.jit
def columns_product(M_ptr, count, z_ptr, n: tl.constexpr, N: tl.constexpr, CHUNK: tl.constexpr):
    """``M'z``: [count] in memory -> [N]."""
    total = tl.zeros((CHUNK, N), tl.float64)
    for start in range(0, count, CHUNK):
        rows = start + tl.arange(0, CHUNK)
        z = tl.load(z_ptr + rows, mask=rows < count, other=0.0)
        total += chunk_of(M_ptr, start, count, n, N, CHUNK) * z[:, None]
    return tl.sum(total, axis=0)


@triton.jit
def gram(K, M_ptr, count, w_ptr, n: tl.constexpr, N: tl.constexpr, CHUNK: tl.constexpr):
    """``K + M' diag(w) M``: [N, N], [count] in memory -> [N, N], by rank-1 updates; chunks with w = 0 are skipped."""
    index = tl.arange(0, N)
    for start in range(0, count, CHUNK):
        rows = start + tl.arange(0, CHUNK)
        present = tl.load(w_ptr + rows, mask=rows < count, other=0.0)
        if tl.max(tl.abs(present), axis=0) > 0:
            for i in tl.static_range(CHUNK):
                w = tl.load(w_ptr + start + i, mask=start + i < count, other=0.0)
                line = M_ptr + (start + i) * n
                kept = tl.where(index < n, w, 0.0) != 0
                down = tl.load(line + index[:, None], mask=kept[:, None], other=0.0)
                across = tl.load(line + index[None, :], mask=kept[None, :], other=0.0)
                K += (w * down) * across
    return K


@triton.jit
def all_rows_product(
    A_ptr,
    C_ptr,
    n_eq,
    n_in,
    x,  # [N]
    y,  # [N]
    Gx_ptr,  # [m]
    Gy_ptr,  # [m]
    n: tl.constexpr,
    N: tl.constexpr,
    BOUNDED: tl.constexpr,
    CHUNK: tl.constexpr,
):
    """Writes ``G x`` and ``G y`` of all rows G = [A; C; I]."""
    rows_product(A_ptr, n_eq, x, y, Gx_ptr, Gy_ptr, n, N, CHUNK)
    rows_product(C_ptr, n_in, x, y, Gx_ptr + n_eq, Gy_ptr + n_eq, n, N, CHUNK)
    if BOUNDED:
        put(Gx_ptr + n_eq + n_in, x, n, N)
        put(Gy_ptr + n_eq + n_in, y, n, N)


@triton.jit
def all_columns_product(
    A_ptr,
    C_ptr,
    n_eq,
    n_in,
    z_ptr,  # [m]
    n: tl.constexpr,
    N: tl.constexpr,
    BOUNDED: tl.constexpr,
    CHUNK: tl.constexpr,
):
    """``G'z`` of all rows: [N]."""
    total = columns_product(A_ptr, n_eq, z_ptr, n, N, CHUNK) + columns_product(C_ptr, n_in, z_ptr + n_eq, n, N, CHUNK)
    if BOUNDED:
        total += get(z_ptr + n_eq + n_in, n, 0.0, N)
    return total


@triton.jit
def assembled(
    H_ptr,
    A_ptr,
    C_ptr,
    n_eq,
    n_in,
    sigma,
    P,  # [N]
    w_ptr,  # [m]
    n: tl.constexpr,
    N: tl.constexpr,
    HAS_H: tl.constexpr,
    BOUNDED: tl.constexpr,
    CHUNK: tl.constexpr,
):
    """``K = sigma H + diag(P) + G' diag(w) G``: [N, N]; the bounds add to the diagonal."""
    index = tl.arange(0, N)
    added = P
    if BOUNDED:
        added += get(w_ptr + n_eq + n_in, n, 0.0, N)
    K = tl.where(index[:, None] == index[None, :], added[None, :], 0.0)
    if HAS_H:
        inside = (index[:, None] < n) & (index[None, :] < n)
        K += sigma * tl.load(H_ptr + (index[:, None] * n + index[None, :]), mask=inside, other=0.0)
    K = gram(K, A_ptr, n_eq, w_ptr, n, N, CHUNK)
    return gram(K, C_ptr, n_in, w_ptr + n_eq, n, N, CHUNK)


@triton.jit
def assembly_kernel(
    H_ptr,  # [B, n, n]
    A_ptr,  # [B, n_eq, n]
    C_ptr,  # [B, n_in, n]
    x_ptr,  # [B, n]
    P_ptr,  # [B, n]
    z_ptr,  # [B, m]
    w_ptr,  # [B, m]
    K_ptr,  # [B, n, n] output: H / 2 + diag(P) + G' diag(w) G
    Gx_ptr,  # [B, m] output
    Gz_ptr,  # [B, n] output: G'z
    n_eq,
    n_in,
    n: tl.constexpr,
    N: tl.constexpr,
    BOUNDED: tl.constexpr,
    CHUNK: tl.constexpr,
):
    """The products alone, one program for each problem."""
    b = tl.program_id(0).to(tl.int64)
    m = n_eq + n_in + (n if BOUNDED else 0)
    H, A, C = H_ptr + b * n * n, A_ptr + b * n_eq * n, C_ptr + b * n_in * n
    x, P = get(x_ptr + b * n, n, 0.0, N), get(P_ptr + b * n, n, 1.0, N)
    all_rows_product(A, C, n_eq, n_in, x, x, Gx_ptr + b * m, Gx_ptr + b * m, n, N, BOUNDED, CHUNK)
    put(Gz_ptr + b * n, all_columns_product(A, C, n_eq, n_in, z_ptr + b * m, n, N, BOUNDED, CHUNK), n, N)
    K = assembled(H, A, C, n_eq, n_in, 0.5, P, w_ptr + b * m, n, N, True, BOUNDED, CHUNK)
    index = tl.arange(0, N)
    inside = (index[:, None] < n) & (index[None, :] < n)
    tl.store(K_ptr + b * n * n + (index[:, None] * n + index[None, :]), K, mask=inside)
