"""What the compiled kernels execute in a Newton step: bench/chip/executed.csv.

    PYTHONPATH=.:tests python -m gpu.counts [--functions N]

solves feasible problems of each size on the emulator and writes the instructions of PTX that the warps of a problem
execute, next to its steps; all of a forward counts, what is before the first step and after the last one too. With
--functions it prints those of each function at one size instead. Not for a process with TRITON_INTERPRET=1.
"""

from __future__ import annotations

import argparse
import importlib
from collections import Counter
from pathlib import Path

import pytest
import torch

import qplayer_gpu as qp
from bench import chip, table

from . import cases, on_cupy, on_triton
from .emulated import Emulation

FILE = Path(chip.__file__).with_name("executed.csv")
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


def executed(backend: str, n: int, emulation: Emulation) -> tuple[int, dict[tuple[str, str], float]]:
    """The threads of a block, and what the warps of a problem execute in a step, by function and kind."""
    rows = cases.rows_of("qp", n, 2 * BATCH).take(torch.arange(1, 2 * BATCH, 2))  # of which no problem is infeasible
    kernels = importlib.import_module(f"qplayer_gpu.kernels.{backend}")
    answer = kernels.forward(rows, qp.Settings().options(torch.float64, cases.CPU), None)
    launch, steps = emulation.launches[-1], int(answer.iterations.sum())
    return launch.threads, {key: count / WARP / steps for key, count in launch.counts.items()}


def row(backend: str, n: int, threads: int, counts: dict[tuple[str, str], float]) -> dict[str, object]:
    """A line of the table: all instructions, and those of each column."""
    kinds: Counter[str] = Counter()
    for (_, kind), count in counts.items():
        kinds[kind] += count  # type: ignore[assignment]
    known: dict[str, object] = {"kernels": backend, "n": n, "threads": threads}
    known["instructions"] = round(sum(kinds.values()))
    return known | {name: round(sum(kinds[kind] for kind in column)) for name, column in COLUMNS.items()}


def by_function(counts: dict[tuple[str, str], float]) -> dict[str, float]:
    """The instructions of each function, the most first."""
    total: Counter[str] = Counter()
    for (function, _), count in counts.items():
        total[function] += count  # type: ignore[assignment]
    return {name: count for name, count in total.most_common() if count}


def main() -> None:
    """Writes the table, or prints one of functions."""
    parser = argparse.ArgumentParser(prog="python -m gpu.counts", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--functions", type=int, metavar="N", help="print those of each function at n = N")
    only = parser.parse_args().functions
    lines: list[dict[str, object]] = []
    with pytest.MonkeyPatch.context() as patch:
        for backend, emulation in {"triton": on_triton.emulate(), "cuda": on_cupy.emulate(patch)}.items():
            for n in [only] if only else SIZES[backend]:
                threads, counts = executed(backend, n, emulation)
                if only:
                    lines += [
                        {"kernels": backend, "function": name, "instructions": round(count)}
                        for name, count in by_function(counts).items()
                    ]
                else:
                    lines.append(row(backend, n, threads, counts))
    if only:
        print(table.markdown(list(lines[0]), (line.values() for line in lines)))
    else:
        table.write(FILE, lines[0], lines)


if __name__ == "__main__":
    main()
