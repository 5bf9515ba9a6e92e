"""What the kernels execute on cards whose doubles are slow: bench/chip/consumer.csv.

    PYTHONPATH=.:tests python -m gpu.consumer

counts on the emulator, for sm_86, what a problem takes of a Newton step of the CUDA kernels, in double and in mixed
precision, and of an iteration and a measurement of ADMM in Triton, by the same names as bench/chip/paths.csv. Not for a
process with TRITON_INTERPRET=1.
"""

from __future__ import annotations

import importlib
from collections import Counter
from collections.abc import Iterator

import pytest
import torch
from helpers import as_rows

import qplayer_gpu as qp
from bench import families, table
from bench.chip import consumer
from qplayer_gpu.kernels.cuda import source

from . import cases, iterations, on_cupy, on_triton, timed
from .emulated import Emulation
from .program import Program

ARCHITECTURE = 86
EACH = 4  # problems, one after the other, by the same threads
PRECISIONS = {"float64": False, "float32": True}
COUNTED = ("instructions", "double", "division", "accesses")


class Counted(timed.TimedProgram):
    """A module that counts as one with a clock does, and has none."""

    writer = Program.writer


def step(n: int, precision: str, emulation: Emulation) -> consumer.Part:
    """A Newton step, next to which what is before the first and after the last one counts too.

    Raises:
        RuntimeError: some problems are not solved.
    """
    kernels = importlib.import_module("qplayer_gpu.kernels.cuda")
    batch = EACH * source.at_once(source.threads_of(n))
    settings = qp.Settings(precision="mixed" if PRECISIONS[precision] else "float64")
    emulation.launches.clear()
    answer = kernels.forward(
        as_rows(families.mixed(batch, n).arrays()), settings.options(torch.float64, cases.CPU), None
    )
    if emulation.findings or answer.status.any():
        raise RuntimeError(f"n = {n} in {precision}: {answer.status}, {emulation.findings}")
    kinds: Counter[str] = Counter()
    for launch in emulation.launches:
        for (_, kind), count in launch.counts.items():
            kinds[kind] += count
    steps = int(answer.iterations.sum())
    return part("any", n, precision, "step", {kind: count / source.WARP / steps for kind, count in kinds.items()})


def part(matrices: str, n: int, precision: str, what: str, kinds: dict[str, float]) -> consumer.Part:
    """A row of the table.

    Raises:
        RuntimeError: there are products of tensor cores, for which the model has no rate.
    """
    if kinds.get("product"):
        raise RuntimeError(f"n = {n} in {precision}: {what} has products of matrices")
    return consumer.Part(matrices, n, precision, what, **{kind: kinds.get(kind, 0.0) for kind in COUNTED})


def of_admm(n: int, precision: str, shared: bool, emulation: Emulation) -> Iterator[consumer.Part]:
    """An iteration, a tenth of what ten more execute, and a measurement, all that is executed beside iterations."""
    rows = iterations.problems(n, shared)
    ten, twenty = (iterations.executed(rows, PRECISIONS[precision], count, emulation)[1] for count in (10, 20))
    each = {kind: (twenty[kind] - ten[kind]) / 10 for kind in ("product", *COUNTED)}
    for what, kinds in (("iteration", each), ("measurement", {kind: ten[kind] - 10 * each[kind] for kind in each})):
        yield part("shared" if shared else "own", n, precision, what, kinds)


def main() -> None:
    """Writes the table."""
    torch.set_num_threads(1)
    found: list[consumer.Part] = []
    with pytest.MonkeyPatch.context() as patch:
        for module in (on_cupy, on_triton):
            patch.setattr(module, "Program", Counted)
        of_triton, of_cuda = on_triton.emulate(ARCHITECTURE), on_cupy.emulate(patch, ARCHITECTURE)
        for n in iterations.SIZES:
            for precision in PRECISIONS:
                found.append(step(n, precision, of_cuda))
                for shared in (True, False):
                    found += of_admm(n, precision, shared, of_triton)
                print(f"n = {n}, {precision}", flush=True)
    table.write(consumer.FILE, consumer.Part.__annotations__, map(vars, found))


if __name__ == "__main__":
    main()
