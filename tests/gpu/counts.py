"""What the compiled kernels execute in a Newton step: the table of docs/kernels.md.

    PYTHONPATH=.:tests python -m gpu.counts [--functions N]

solves feasible problems of each size on the emulator and prints the instructions of PTX that the warps of a problem
execute, next to its steps; all of a forward counts, what is before the first step and after the last one too. With
--functions it prints those of each function at one size. Not for a process with TRITON_INTERPRET=1.
"""

from __future__ import annotations

import argparse
import importlib
from collections import Counter
from collections.abc import Iterator

import pytest
import torch

import qplayer_gpu as qp

from . import cases, on_cupy, on_triton
from .emulated import Emulation

SIZES = {"triton": (8, 16, 32, 64), "cuda": (8, 16, 32, 64, 128)}
BATCH = 4
WARP = 32
COLUMNS = {
    "copies": ("copy",),
    "double": ("double",),
    "products": ("product of matrices",),
    "shuffles": ("shuffle",),
    "barriers": ("barrier", "barrier of a warp"),
    "shared memory": ("load shared", "store shared"),
    "global memory": ("load global", "store global", "atomic global"),
    "local memory": ("load local", "store local"),
}
HEAD = ("kernels", "n", "threads", "instructions", *COLUMNS)


def executed(backend: str, n: int, emulation: Emulation) -> tuple[int, dict[tuple[str, str], float]]:
    """The threads of a block, and what the warps of a problem execute in a step, by function and kind."""
    rows = cases.rows_of("qp", n, 2 * BATCH).take(torch.arange(1, 2 * BATCH, 2))  # of which no problem is infeasible
    kernels = importlib.import_module(f"qplayer_gpu.kernels.{backend}")
    answer = kernels.forward(rows, qp.Settings().options(torch.float64, cases.CPU), None)
    launch, steps = emulation.launches[-1], int(answer.iterations.sum())
    return launch.threads, {key: count / WARP / steps for key, count in launch.counts.items()}


def cells(counts: dict[tuple[str, str], float]) -> Iterator[str]:
    """All instructions, and those of each column."""
    kinds: Counter[str] = Counter()
    for (_, kind), count in counts.items():
        kinds[kind] += count  # type: ignore[assignment]
    yield f"{sum(kinds.values()):.0f}"
    yield from (f"{sum(kinds[kind] for kind in column):.0f}" for column in COLUMNS.values())


def row(*words: object) -> str:
    """A line of a table."""
    return f"| {' | '.join(map(str, words))} |"


def by_function(counts: dict[tuple[str, str], float]) -> dict[str, float]:
    """The instructions of each function, the most first."""
    total: Counter[str] = Counter()
    for (function, _), count in counts.items():
        total[function] += count  # type: ignore[assignment]
    return {name: count for name, count in total.most_common() if count}


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(prog="python -m gpu.counts", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--functions", type=int, metavar="N", help="of each function at n = N")
    only = parser.parse_args().functions
    head = ("kernels", "function", "instructions") if only else HEAD
    print(row(*head), row(*["---"] * len(head)), sep="\n")
    with pytest.MonkeyPatch.context() as patch:
        for backend, emulation in {"triton": on_triton.emulate(), "cuda": on_cupy.emulate(patch)}.items():
            for n in [only] if only else SIZES[backend]:
                threads, counts = executed(backend, n, emulation)
                if only:
                    print(*(row(backend, name, f"{c:.0f}") for name, c in by_function(counts).items()), sep="\n")
                else:
                    print(row(backend, n, threads, *cells(counts)), flush=True)


if __name__ == "__main__":
    main()
