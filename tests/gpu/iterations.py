"""What Triton's kernel of ADMM executes: bench/chip/iterations.csv.

    PYTHONPATH=.:tests python -m gpu.iterations

runs problems with n / 4 equalities and n other rows on the emulator, for sm_90. An iteration is a tenth of what ten
more of them execute; a measurement is all that is executed without any. Warp instructions, next to the number of
problems.
Not for a process with TRITON_INTERPRET=1.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import torch

from bench import chip, table
from qplayer_gpu.kernels.interface import Rows
from qplayer_gpu.kernels.triton import admm

from . import cases, on_triton
from .counts import WARP
from .emulated import Emulation

FILE = Path(chip.__file__).with_name("iterations.csv")
SIZES = (16, 64)
BATCH = {True: 16, False: 2}  # of problems that share their matrices, or do not
KINDS = {
    "double": ("double",),
    "products": ("product of matrices",),
    "shared memory": ("load shared", "store shared"),
    "global memory": ("load global", "store global"),
    "local memory": ("load local", "store local"),
    "barriers": ("barrier",),
}


def problems(n: int, shared: bool) -> Rows:
    """Feasible ones with bounds on nothing."""
    batch = BATCH[shared]
    count = 1 if shared else batch
    normal = torch.Generator().manual_seed(n)
    M, G, x = (
        torch.randn(*shape, generator=normal, dtype=torch.float64)
        for shape in ((count, n, n), (count, n + n // 4, n), (batch, n))
    )
    A, C = G.split([n // 4, n], 1)
    hi = (G @ x.unsqueeze(-1)).squeeze(-1)
    lo = hi.clone()
    lo[:, n // 4 :] = -torch.inf
    return Rows(M @ M.mT / n, x, A, C, lo, hi, None, None, batch)


def executed(rows: Rows, single: bool, count: int, emulation: Emulation) -> tuple[int, Counter[str]]:
    """The threads of a program, and what the launches execute for each problem, by kind."""
    first = cases.first_of(rows, single)
    emulation.launches.clear()
    admm.advance(*first, cases.OPTIONS, count)
    kinds = Counter[str]()
    for launch in emulation.launches:
        for (_, kind), number in launch.counts.items():
            kinds[kind] += number
    return launch.threads, Counter({kind: number / WARP / rows.batch for kind, number in kinds.items()})  # type: ignore[misc]


def line(counts: Counter[str]) -> dict[str, object]:
    """All instructions, and those of each column."""
    found = {name: round(sum(counts[kind] for kind in kinds), 1) for name, kinds in KINDS.items()}
    return {"instructions": round(counts.total(), 1), **found}


def main() -> None:
    """Writes the table."""
    lines: list[dict[str, object]] = []
    emulation = on_triton.emulate()
    for shared in BATCH:
        for n in SIZES:
            rows = problems(n, shared)
            for single in (False, True):
                threads, none = executed(rows, single, 0, emulation)
                _, ten = executed(rows, single, 10, emulation)
                ten.subtract(none)
                iteration = Counter({kind: number / 10 for kind, number in ten.items()})
                known = {"matrices": "shared" if shared else "own", "n": n, "rows": rows.m}
                known["precision"] = "float32" if single else "float64"
                for what, counts in (("iteration", iteration), ("measurement", none)):
                    lines.append({**known, "what": what, "threads": threads, **line(counts)})
                    print(*lines[-1].values(), flush=True)
    table.write(FILE, lines[0], lines)


if __name__ == "__main__":
    main()
