"""Whether small problems should share a warp: counted in machine code, as no GPU is needed for it.

    python -m bench.sharing

prints the table of docs/kernels.md. P problems of n variables, padded to a tile, are given to one warp. The sweep of K
and the product of n rows with a vector are compiled for sm_90, and their instructions (kernels/triton/sass.py) divided
by P. The P problems step until the last of them has ended: ``steps`` is the mean of the most steps of each P random
feasible problems, next to the mean; ``sweep x steps`` is what a problem then issues in sweeps, next to the first line
of its n.
"""

from __future__ import annotations

import re

import torch
import triton
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

import qplayer_gpu
from qplayer_gpu.kernels.triton import sass

from . import families
from .estimate import BATCH, markdown

CHUNK = 4  # rows of a matrix read at once, as in the launch table
SHARED = [(4, 8, 1), (4, 4, 1), (4, 4, 2), (4, 4, 4), (4, 4, 8), (8, 8, 1), (8, 8, 2), (8, 8, 4), (8, 8, 8)]


@triton.jit
def sweep(K_ptr, n, P: tl.constexpr, N: tl.constexpr, CHUNK: tl.constexpr):
    """As that of kernels/triton/factor.py, with P matrices [P, N, N]."""
    i = tl.arange(0, N)
    at = K_ptr + (tl.arange(0, P)[:, None, None] * (N * N) + i[None, :, None] * N + i[None, None, :])
    K = tl.load(at)
    for j in range(0, n):
        k = tl.sum(tl.where(i[None, :, None] == j, K, 0.0), axis=1)
        d = tl.sum(tl.where(i[None, :] == j, k, 0.0), axis=1)
        w = tl.where(i[None, :] == j, d[:, None] - 1.0, k)
        K = K - tl.expand_dims(w, 2) * tl.expand_dims(w * (1.0 / d)[:, None], 1)
    tl.store(at, K)


@triton.jit
def product(G_ptr, x_ptr, y_ptr, n, P: tl.constexpr, N: tl.constexpr, CHUNK: tl.constexpr):
    """``G x`` of P matrices [n, N] and vectors [N], by chunks of rows."""
    p, i = tl.arange(0, P), tl.arange(0, N)
    x = tl.load(x_ptr + p[:, None] * N + i[None, :])
    for start in range(0, n, CHUNK):
        rows = start + tl.arange(0, CHUNK)
        at = p[:, None, None] * (N * N) + rows[None, :, None] * N + i[None, None, :]
        G = tl.load(G_ptr + at, mask=(rows < n)[None, :, None], other=0.0)
        tl.store(y_ptr + p[:, None] * N + rows[None, :], tl.sum(G * x[:, None, :], axis=2), mask=(rows < n)[None, :])


def main() -> None:
    """Prints the table."""
    first: dict[int, float] = {}
    lines = []
    for n, tile, P in SHARED:
        (swept, registers), (multiplied, others) = (counted(f, n, tile, P) for f in (sweep, product))
        steps = steps_together(n, P)
        each = swept * steps / P
        line = {"n": n, "tile": tile, "P": P, "sweep": round(swept / P), "product": round(multiplied / P)}
        line |= {"registers": max(registers, others), "steps": f"{steps:.2f}"}
        lines.append(line | {"sweep x steps": f"{each / first.setdefault(n, each):.2f}"})
    print(markdown(lines))


def counted(function: triton.JITFunction, n: int, tile: int, shared: int) -> tuple[int, int]:
    """Instructions of the warp, and registers."""
    constants = {"P": shared, "N": tile, "CHUNK": CHUNK}
    names = [p.name for p in function.params]
    signature = {k: "constexpr" if k in constants else "i32" if k == "n" else "*fp64" for k in names}
    aligned = {(k,): [["tt.divisibility", 16]] for k, kind in enumerate(signature.values()) if kind.startswith("*")}
    source = ASTSource(function, signature, constants, aligned)
    cubin = triton.compile(source, target=GPUTarget("cuda", 90, 32), options={"num_warps": 1}).asm["cubin"]
    registers = re.findall(r"REG:(\d+)", sass.tool("cuobjdump", "-res-usage", cubin=cubin))[0]
    return sass.Code(cubin).counts({"": n}, within_loop=False)[0], int(registers)  # functions of this file have no name


def steps_together(n: int, shared: int) -> float:
    """The mean of the most Newton steps among each ``shared`` problems, next to the mean."""
    arrays = families.mixed(BATCH, n).arrays()
    steps = qplayer_gpu.solve_qp(**arrays, backend="torch").check().info.iterations.double()
    return (steps.unflatten(0, (-1, shared)).amax(1).mean() / steps.mean()).item()


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
