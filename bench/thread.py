"""A batch on one thread beside DAQP's time in C: ``python -m bench.thread``, in the peers' environment, 20 seconds.

It writes results/thread.csv, the table of bench/README.md: microseconds of a QP of the family "mixed", of this library
by the whole call, of DAQP by the times in C that it says of each problem. The two take turns; a time is the median over
turns. The answers of both are checked before.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from statistics import median

import torch

from . import clock
from .cases import CASES, SIZES
from .certificate import certify
from .rows import environment
from .solvers import adapter
from .solvers.base import LADDER, Adapter, Task
from .solvers.singles import PROCESSORS
from .table import markdown, parsed, write

FILE = Path(__file__).parent / "results" / "thread.csv"
SIZES_OF_X = (4, 8, 16, 32, 64)
TURNS = 15


@dataclass(frozen=True)
class Row:
    """A line of the table."""

    date: str
    commit: str
    machine: str
    load: float
    n: int
    batch: int
    us: float  # of a QP, of this library
    daqp_us: float


def solved(name: str, n: int) -> Adapter:
    """A solver that has solved the batch.

    Raises:
        ArithmeticError: not all answers are right.
    """
    qp = CASES[f"mixed_n{n}"].problems(SIZES["full"])
    solver: Adapter = adapter(name)(Task(qp, (), LADDER[0], True))
    solver.forward(differentiable=False)
    if certify(qp, solver.answer()).solved < 1:
        raise ArithmeticError(f"{name} does not solve all problems with n = {n}")
    return solver


def compared(n: int) -> Row:
    """Both solvers by turns."""
    torch.set_num_threads(1)
    ours, daqp = solved("qplayer_gpu", n), solved("daqp", n)
    found: list[tuple[float, float]] = []
    for _ in range(TURNS):
        daqp.forward(differentiable=False)
        ours.forward(differentiable=False)  # once with cold caches
        seconds = clock.seconds(lambda: ours.forward(differentiable=False), "cpu", on_stream=False)
        found.append((seconds, daqp.seconds * PROCESSORS))
    times = (1e6 * median(taken) / ours.qp.batch for taken in zip(*found, strict=True))
    here = environment("cpu")
    where = {field.name: here[field.name] for field in fields(Row) if field.name in here}
    return Row(**where | {"n": n, "batch": ours.qp.batch}, **dict(zip(("us", "daqp_us"), times, strict=True)))


def table() -> str:
    """The committed rows, in Markdown."""
    rows = [[r.n, r.batch, f"{r.us:.3g}", f"{r.daqp_us:.3g}", f"{r.daqp_us / r.us:.2g}"] for r in parsed(FILE, Row)]
    return markdown(["n", "batch", "this library", "DAQP, in C", "times as fast"], rows)


def main() -> None:
    """Measures, writes and prints."""
    rows = [compared(n) for n in SIZES_OF_X]
    write(FILE, [field.name for field in fields(Row)], [vars(row) for row in rows])
    print(table())


if __name__ == "__main__":
    main()
