"""Cost against accuracy: the augmented Lagrangian and ADMM, on a core of this CPU measured, on an H100 modelled.

python -m bench.methods             # rows to results/methods.csv, the picture to docs/choosing/methods.png
python -m bench.methods --draw      # the picture alone

It takes about a minute. The model is the largest of three times of a multiprocessor: of the warp instructions that
`tests/gpu` executes, at four a clock; of the products of matrices, at the rate of the tensor cores; of the accesses to
shared memory in double, two clocks each. What torch does between two launches of ADMM is the bytes that it reads and
writes, at the rate of the memory. Waits are not in it, nor launches.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import torch
from matplotlib.axes import Axes

import qplayer_gpu as qp
from qplayer_gpu import method
from qplayer_gpu.kernels import numbers

from . import families
from .pictures import COLOUR, DARK, GREY, SECOND, STYLE, WIDTH, label_ends
from .table import parsed, write

ROOT = Path(__file__).parents[1]
FILE, PICTURE = ROOT / "bench" / "results" / "methods.csv", ROOT / "docs" / "choosing" / "methods.png"
BATCH = 256
SIZES = (16, 64)
TOLERANCES = (1e-2, 1e-3, 1e-4, 1e-6, 1e-9)
REPEATS = 2
FAMILIES = {"shared matrices": families.shared, "own matrices": families.mixed}
SETTINGS = {
    "alm": {"method": "alm"},
    "admm": {"method": "admm"},
    "admm in float32": {"method": "admm", "precision": "mixed"},
}

# Of an H100 (SXM): multiprocessors times GHz, multiply-adds of the tensor cores of one in a clock, bytes in a ns
CLOCKS, TENSOR, MEMORY = 132 * 1.755, 145.0, 3350.0
# Executed for each problem, sm_90: warp instructions, those on shared memory, and products m16n8k16 of matrices
STEP = {16: (6701, 412, 0), 64: (37994, 4072, 0)}  # of a Newton step of the CUDA kernels (docs/kernels.md)
ITERATION = {16: (50, 14.6, 1.0), 64: (250, 115.2, 10)}  # of an iteration of ADMM (python -m gpu.iterations)
MEASURE = {16: 38560, 64: 151708}  # bytes that torch reads and writes in a measurement


@dataclass
class Row:
    """One way on one kind of problem, to one tolerance."""

    problems: str
    n: int
    method: str
    eps: float
    iterations: float  # Newton steps, or iterations of ADMM
    solved: float  # share
    cpu_us: float  # of a QP, on one core
    gpu_ns: float | None  # of a QP, modelled, where there is a kernel


def nanoseconds(instructions: float, shared: float, products: float) -> float:
    """Of one problem, where all multiprocessors are busy."""
    return max(instructions / 4, 2 * shared, products * 16 * 8 * 16 / TENSOR) / CLOCKS


def modelled(problems: str, n: int, name: str, iterations: float) -> float | None:
    """Nanoseconds of a QP on an H100."""
    if name == "alm":
        return iterations * nanoseconds(*STEP[n])
    if problems != "shared matrices" or name != "admm":
        return None
    return iterations * (nanoseconds(*ITERATION[n]) + MEASURE[n] / MEMORY / numbers.ADMM_CHECK)


def measured() -> Iterator[Row]:
    """All rows."""
    for problems, family in FAMILIES.items():
        for n in SIZES:
            arrays = {"H": None, **family(BATCH, n).arrays()}
            for eps in TOLERANCES:
                for name, choice in SETTINGS.items():
                    settings = qp.Settings(eps_abs=eps, max_iter=4000, **choice)
                    times = []
                    for _ in range(REPEATS):
                        start = time.process_time()
                        sol = qp.solve_qp(**arrays, settings=settings)
                        times.append(time.process_time() - start)
                    mean = sol.info.iterations.double().mean().item()
                    solved = (sol.status == qp.Status.SOLVED).double().mean().item()
                    gpu = modelled(problems, n, name, mean)
                    yield Row(problems, n, name, eps, mean, solved, 1e6 * min(times) / BATCH, gpu)
                    print(f"{problems}, n = {n}, {name}, {eps:g}: {mean:.1f}", flush=True)
            if problems == "shared matrices":
                yield from started(n, arrays)


def started(n: int, arrays: dict) -> Iterator[Row]:
    """The augmented Lagrangian begun by ADMM, as "auto" has it where that pays."""
    pays, steps_of = method.pays, method.steps_of
    method.pays, method.steps_of = lambda rows: True, lambda rows, backend: steps_of(rows, "torch")
    approach = sum(numbers.ADMM_APPROACH) * nanoseconds(*ITERATION[n])
    approach += len(numbers.ADMM_APPROACH) * MEASURE[n] / MEMORY
    for eps in TOLERANCES:
        sol = qp.solve_qp(**arrays, settings=qp.Settings(eps_abs=eps, method="auto"), backend="torch")
        mean = sol.info.iterations.double().mean().item()
        solved = (sol.status == qp.Status.SOLVED).double().mean().item()
        total = approach + mean * nanoseconds(*STEP[n])
        yield Row("shared matrices", n, "admm, then alm", eps, mean, solved, float("nan"), total)
    method.pays, method.steps_of = pays, steps_of


def draw(rows: list[Row]) -> None:
    """For each size the CPU and the GPU."""
    PICTURE.parent.mkdir(exist_ok=True)
    with plt.rc_context(STYLE | {"axes.titlepad": 10}):
        figure, axes = plt.subplots(
            len(SIZES), 2, figsize=(1.5 * WIDTH, 8.5), gridspec_kw={"wspace": 0.6, "hspace": 0.35}
        )
        for line, n in zip(axes, SIZES, strict=True):
            some = [row for row in rows if row.n == n]
            panel(line[0], some, "cpu_us", f"n = {n}: one core of a CPU, measured", "µs per QP")
            panel(line[1], some, "gpu_ns", f"n = {n}: an H100, modelled", "ns per QP")
        figure.savefig(PICTURE, bbox_inches="tight", facecolor="white")
        plt.close(figure)


def panel(axes: Axes, rows: list[Row], what: str, title: str, unit: str) -> None:
    """A line for each way."""
    colours = {"alm": GREY, "admm": COLOUR, "admm in float32": SECOND, "admm, then alm": DARK}
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.invert_xaxis()
    ends = []
    for problems, style in (("shared matrices", "-"), ("own matrices", ":")):
        for name, colour in colours.items():
            points = [r for r in rows if (r.problems, r.method) == (problems, name) and r.solved > 0.99]
            points = [(r.eps, v) for r in points if (v := getattr(r, what)) is not None and v == v]
            if points:
                x, y = zip(*points, strict=True)
                axes.plot(x, y, style, color=colour, marker="o", markersize=3.5)
                ends.append((x[-1], y[-1], f"{name}, {problems.split()[0]}", colour))
    label_ends(axes, ends)
    axes.set_title(title)
    axes.set_xlabel("eps_abs")
    axes.set_ylabel(unit)


def main() -> None:
    """Measures, unless only the picture is wanted."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draw", action="store_true", help="the picture alone, from the rows that are there")
    if not parser.parse_args().draw:
        torch.set_num_threads(1)
        write(FILE, [f.name for f in fields(Row)], map(vars, measured()))
    draw(parsed(FILE, Row))


if __name__ == "__main__":
    main()
