"""Cost against accuracy: the augmented Lagrangian and ADMM, on a core of this CPU measured, on an H100 modelled.

python -m bench.methods             # rows to results/methods.csv, the picture to docs/choosing/methods.png
python -m bench.methods --draw      # the picture alone

It takes about a minute. The model is the largest of three times of a multiprocessor: of the warp instructions that
the rows of bench/chip say are executed (`gpu.counts`, `gpu.iterations`), at four a clock; of the products of matrices,
at the rate of the tensor cores; of the accesses to shared memory, a clock or, in double precision, two each. To a
measurement of ADMM the bytes are added that its kernel, and torch after it, read and write, at the rate of the
memory. Waits are not in it, nor launches, nor registers that spill.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from unittest.mock import patch

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import torch
from matplotlib.axes import Axes

import qplayer_gpu as qp
from qplayer_gpu import method
from qplayer_gpu.kernels import numbers
from qplayer_gpu.kernels.reference.admm import REFERENCE

from . import families
from .chip.model import CARDS, QUARTERS
from .pictures import COLOUR, DARK, GREY, SECOND, STYLE, WIDTH, label_ends
from .table import parsed, read, write

ROOT = Path(__file__).parents[1]
FILE, PICTURE = ROOT / "bench" / "results" / "methods.csv", ROOT / "docs" / "choosing" / "methods.png"
BATCH = 256
DOUBLE = 8  # bytes
# The share of the vectors that is copied at each measurement, as problems end among others (0.26 and 0.41 were counted)
COPIED = 0.4
SIZES = (16, 64)
TOLERANCES = (1e-2, 1e-3, 1e-4, 1e-6, 1e-9)
REPEATS = 2
FAMILIES = {"shared matrices": families.shared, "own matrices": families.mixed}
SETTINGS = {
    "alm": {"method": "alm"},
    "admm": {"method": "admm"},
    "admm in float32": {"method": "admm", "precision": "mixed"},
}

CARD = CARDS[90]
CLOCKS, MEMORY = CARD.multiprocessors * CARD.gigahertz, CARD.gbytes  # of all multiprocessors, and bytes, in a ns
PRODUCTS = {"cuda": 8 * 8 * 4, "triton": 16 * 8 * 16}  # multiply-adds of a product that they execute
TENSOR = QUARTERS * PRODUCTS["cuda"] / CARD.busy["product"]  # the same of a multiprocessor in a clock
STEP_ROWS, ITERATION_ROWS = (ROOT / "bench" / "chip" / f"{name}.csv" for name in ("executed", "iterations"))


@dataclass
class Row:
    """A line of the table: a method on a kind of problem of size n, to a tolerance."""

    problems: str
    n: int
    method: str
    eps: float
    iterations: float  # Newton steps, or iterations of ADMM
    solved: float  # share
    cpu_us: float  # of a QP, on one core
    gpu_ns: float | None  # of a QP, modelled, where there is a kernel


def nanoseconds(line: dict[str, str], backend: str, clocks: int = 2) -> float:
    """Nanoseconds for each problem of a line of counts, with all multiprocessors busy.

    An access of a warp to shared memory takes this many clocks.
    """
    instructions, products, shared = (float(line[name]) for name in ("instructions", "products", "shared memory"))
    return max(instructions / QUARTERS, clocks * shared, products * PRODUCTS[backend] / TENSOR) / CLOCKS


def step(n: int) -> float:
    """Nanoseconds of a Newton step of the CUDA kernels."""
    return next(
        nanoseconds(line, "cuda") for line in read(STEP_ROWS) if (line["kernels"], line["n"]) == ("cuda", str(n))
    )


def iterations_of(n: int, matrices: str, precision: str) -> dict[str, float]:
    """Nanoseconds of an "iteration" of ADMM and of a "measurement", for each problem."""
    wanted = (matrices, str(n), precision)
    lines = [line for line in read(ITERATION_ROWS) if (line["matrices"], line["n"], line["precision"]) == wanted]
    clocks = {"iteration": 2 if precision == "float64" else 1, "measurement": 2}
    found = {line["what"]: nanoseconds(line, "triton", clocks[line["what"]]) for line in lines}
    return found | {"measurement": found["measurement"] + moved(n, matrices == "own") / MEMORY}


def moved(n: int, own: bool) -> float:
    """Bytes that a measurement of a problem reads and writes: vectors, those copied as others end, its matrices."""
    m = n + n // 4
    point, posed = 3 * n + 3 * m, n + 2 * m
    numbers_of = 60  # of each problem, by torch
    matrices = 2 * n * n + n * m + m * m if own else 0
    metric = 2 * n + 3 * m if own else 0
    copied = 2 * (point + posed + metric + matrices)
    return DOUBLE * (2 * point + posed + metric + matrices + numbers_of + COPIED * copied)


def modelled(problems: str, n: int, name: str, iterations: float) -> float | None:
    """Nanoseconds of a QP on an H100."""
    if name == "alm":
        return iterations * step(n)
    each = iterations_of(n, problems.split()[0], "float32" if "float32" in name else "float64")
    return iterations * (each["iteration"] + each["measurement"] / numbers.ADMM_CHECK)


def measured() -> Iterator[Row]:
    """Measures and yields all rows of the table."""
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
    each = iterations_of(n, "shared", "float64")
    approach = sum(numbers.ADMM_APPROACH) * each["iteration"] + len(numbers.ADMM_APPROACH) * each["measurement"]
    for eps in TOLERANCES:
        with patch.multiple(method, pays=lambda rows: True, steps_of=lambda rows, backend: REFERENCE):
            sol = qp.solve_qp(**arrays, settings=qp.Settings(eps_abs=eps, method="auto"), backend="torch")
        mean = sol.info.iterations.double().mean().item()
        solved = (sol.status == qp.Status.SOLVED).double().mean().item()
        total = approach + mean * step(n)
        yield Row("shared matrices", n, "admm, then alm", eps, mean, solved, float("nan"), total)


def draw(rows: list[Row]) -> None:
    """Draws the picture: a line of panels for each size, on the left the CPU and on the right the GPU."""
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
    """Draws one panel: the cost against the tolerance, with a line for each method and kind of problem."""
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
    """Measures and draws, or, with --draw, draws the rows that are there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draw", action="store_true", help="the picture alone, from the rows that are there")
    if not parser.parse_args().draw:
        torch.set_num_threads(1)
        write(FILE, [f.name for f in fields(Row)], map(vars, measured()))
    draw(parsed(FILE, Row))


if __name__ == "__main__":
    main()
