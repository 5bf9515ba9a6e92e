"""What Triton's kernel executes in an iteration of ADMM, for each problem: the table of docs/choosing.md.

    PYTHONPATH=.:tests python -m gpu.iterations

runs tiles of problems with n / 4 equalities and n other rows on the emulator, for sm_90; what is before the first
iteration and after the last one counts too. Not for a process with TRITON_INTERPRET=1.
"""

from __future__ import annotations

from collections import Counter

import torch

from qplayer_gpu.kernels.interface import Rows
from qplayer_gpu.kernels.triton import admm

from . import cases, on_triton
from .counts import SIZES, WARP, row

KINDS = ("double", "product of matrices", "load shared", "store shared", "barrier")


def problems(n: int) -> Rows:
    """A few tiles that share H, A and C."""
    normal = torch.Generator().manual_seed(n)
    M, G, x = (
        torch.randn(*shape, generator=normal, dtype=torch.float64) for shape in ((n, n), (n + n // 4, n), (64, n))
    )
    A, C = (t.unsqueeze(0) for t in G.split([n // 4, n]))
    hi = x @ G.mT
    lo = hi.clone()
    lo[:, n // 4 :] = -torch.inf
    return Rows((M @ M.mT / n).unsqueeze(0), x, A, C, lo, hi, None, None, len(x))


def main() -> None:
    """Prints a table."""
    head = ("n", "rows", "precision", "threads", "instructions", *KINDS)
    print(row(*head), row(*["---"] * len(head)), sep="\n")
    emulation = on_triton.emulate()
    for n in SIZES:
        rows = problems(n)
        for single in (False, True):
            matrices, by, vectors = cases.told(rows, single)
            admm.iterate(matrices, by, *vectors, cases.ITERATIONS)
            launch, kinds = emulation.launches[-1], Counter[str]()
            for (_, kind), count in launch.counts.items():
                kinds[kind] += count
            each = WARP * rows.batch * cases.ITERATIONS
            numbers = (f"{kinds[kind] / each:.1f}" for kind in KINDS)
            precision = "float32" if single else "float64"
            print(row(n, rows.m, precision, launch.threads, f"{kinds.total() / each:.0f}", *numbers), flush=True)


if __name__ == "__main__":
    main()
