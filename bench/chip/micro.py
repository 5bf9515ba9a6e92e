"""What the model assumes of a GPU, measured there: latencies and rates of the instructions of the kernels.

    python -m bench.chip.micro [--out FILE]

runs micro.cu, compiled by NVRTC through CuPy, writes bench/results/micro.csv, and prints what was assumed beside what
is so, the modelled times of QPs by both beside measured ones, and the launch table that follows. **No GPU has run it
yet**, but the emulator, whose clock goes by what is assumed (tests/test_model.py).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import torch

from .. import families, gpu, table
from ..rows import environment
from . import model, variants

SOURCE = Path(__file__).with_name("micro.cu")
FILE = Path(__file__).parents[1] / "results" / "micro.csv"
STEPS, RING, STRIDE, WARP = 512, 31, 16, 32  # as in micro.cu
PASSES = 2
LATENCY, RATE = (1, 32), (4, 512)  # chains of a thread, and threads
OF_BARRIER = (1, 128)  # in which several warps meet
UNITS = (*model.LATENCY, "large_product")  # which is mma.m16n8k8, from sm_90 on
RATED = ("double", "product", "large_product", "division", "approximate", "shuffle", "shared")
FEW = 256  # QPs that are different
QPS = {8: 16384, 16: 16384, 32: 16384, 64: 4096, 128: 1024}  # a batch, by n


class Ran(NamedTuple):
    """What a run of a kernel has measured and computed."""

    cycles: list[int]  # by warp
    out: list[int]  # by thread


Launch = Callable[[str, int, int], Ran]  # of a kernel with so many chains in each of so many threads


@dataclass(frozen=True)
class Row:
    """A line of the table."""

    date: str
    commit: str
    machine: str  # the card
    toolkit: str  # with the driver
    torch: str
    architecture: int
    unit: str
    assumed: float | None  # cycles
    latency: float  # cycles from an instruction to one that needs its result
    busy: float | None  # cycles that an instruction of a warp keeps a quarter of a multiprocessor busy


def options(chains: int) -> tuple[str, ...]:
    """The options of the compiler for a kernel with so many chains."""
    return "-std=c++17", f"-DCHAINS={chains}"


def units(architecture: int) -> list[str]:
    """The units of UNITS that a device of this architecture has."""
    return [unit for unit in UNITS if unit != "large_product" or architecture >= 90]


def expected(unit: str, chains: int, thread: int) -> int:
    """The number that a thread ends with if each of its operations was right."""
    steps = PASSES * STEPS
    ends = {"integer": thread + steps, "double": steps, "product": 8 * steps, "large_product": 32 * steps}
    ends |= {"division": 1, "approximate": 1, "shuffle": thread % WARP, "barrier": 0, "warp_barrier": 0}
    return chains * ends.get(unit, steps % RING)


def measured(unit: str, launch: Launch) -> tuple[float, float | None]:
    """The latency of a unit in cycles, and for how many an instruction keeps it busy (None where that is not rated).

    Raises:
        ArithmeticError: the kernel computes something else than it should.
    """

    def longest(chains: int, threads: int) -> float:
        ran = launch(f"measure_{unit}", chains, threads)
        if ran.out != [expected(unit, chains, thread) for thread in range(threads)]:
            raise ArithmeticError(f"measure_{unit} with {chains} chains of {threads} threads is wrong: {ran.out}")
        return max(ran.cycles) / STEPS

    latency = longest(*(OF_BARRIER if unit == "barrier" else LATENCY))
    if unit not in RATED:
        return latency, None
    chains, threads = RATE
    return latency, longest(chains, threads) / (chains * threads // WARP // model.QUARTERS)


@cache
def module(chains: int) -> Any:
    """The kernels, compiled for the current device."""
    import cupy

    return cupy.RawModule(code=SOURCE.read_text(), options=options(chains))


def on_device(kernel: str, chains: int, threads: int) -> Ran:
    """Runs a kernel on the current device."""
    import cupy

    cycles, out, ring = (cupy.zeros(size, cupy.uint64) for size in (threads // WARP, threads, RING * STRIDE))
    module(chains).get_function(kernel)((1,), (threads,), (cycles, out, ring))
    return Ran(cycles.get().tolist(), out.get().tolist())


def rows(architecture: int, launch: Launch) -> Iterator[Row]:
    """Measures each unit of a device: the rows of the table."""
    where = environment("cuda")
    known = *(where[key] for key in ("date", "commit", "machine", "toolkit", "torch")), architecture
    for unit in units(architecture):
        yield Row(*known, unit, model.LATENCY.get(unit), *measured(unit, launch))


def times(latency: dict[str, float], architecture: int) -> Iterator[list[object]]:
    """Microseconds of a QP: n, by the model with the assumed latencies, with the measured ones, and measured."""
    import qplayer_gpu

    card = model.CARDS[architecture]
    for n, batch in QPS.items():
        few = families.mixed(min(batch, FEW), n)
        arrays = few.map(lambda t, times=batch // few.batch: gpu.repeated(t.to(gpu.device()), times)).arrays()
        seconds, _ = gpu.median(lambda arrays=arrays: qplayer_gpu.solve_qp(**arrays, backend="cuda"))
        path = model.launched(card)[n]
        by_model = (f"{model.time(path, card, by).worst:.3g}" for by in (model.LATENCY, latency))
        yield [n, path.threads, *by_model, f"{1e6 * seconds / batch:.3g}"]


def compared(found: list[Row]) -> str:
    """A table of what the model assumes beside what was measured, in Markdown."""
    card = model.CARDS.get(found[0].architecture)
    busy = card.busy if card else {}
    head = ["cycles", "assumed", "measured", "busy, assumed", "busy, measured"]
    lines = [
        [row.unit, shown(row.assumed), shown(row.latency), shown(busy.get(row.unit)), shown(row.busy)] for row in found
    ]
    return table.markdown(head, lines)


def shown(value: float | None) -> str:
    """A number to three digits; nothing for None."""
    return "" if value is None else f"{value:.3g}"


def main() -> int:
    """Measures and writes the table, and prints what follows; returns 1 without a GPU that the model knows."""
    parser = argparse.ArgumentParser(prog="python -m bench.chip.micro", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", type=Path, default=FILE)
    out, device = parser.parse_args().out, gpu.device()
    major, minor = torch.cuda.get_device_capability(device)
    architecture = 10 * major + minor
    found = list(rows(architecture, on_device))
    variants.write(out, found)
    print(compared(found), flush=True)
    if architecture not in model.CARDS:
        print(f"the model knows no card of sm_{architecture}")
        return 1
    latency = model.LATENCY | {row.unit: row.latency for row in found if row.unit in model.LATENCY}
    head = ["n", "threads", "us per QP by the model", "with what was measured", "measured"]
    print(table.markdown(head, times(latency, architecture)), flush=True)
    print(model.shown({architecture: latency}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
