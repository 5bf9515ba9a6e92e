"""The time of a QP on a GPU, by a model: no GPU has run the kernels yet. Also the launch table that follows.

    python -m bench.chip.model

prints both; bench.chip.micro does, on a GPU, with the latencies that it has measured there.

paths.csv has what the model starts from, written by ``PYTHONPATH=.:tests python -m gpu.paths``: the emulator, with a
clock (tests/gpu/timing.h), solves problems of the benchmark's family "mixed", with as many of their vectors in shared
memory as on the card, and finds how long one takes that has a multiprocessor to itself, how many results of each unit
are on the longest chain of results that need each other, and for how long it keeps the units busy.

With P problems on a multiprocessor, each of which takes A cycles alone and keeps the busiest unit busy for U, one is
done every max(A / P, U) cycles at best. At worst each waits until that unit has served all others once: (A + (P - 1) U)
/ P. These are the asymptotic bounds of closed networks of queues (Denning and Buzen, The operational analysis of
queueing network models, 1978). The launch table takes the least time at worst.

What is left out: conflicts of banks, lines of instructions that are not in the cache, what a branch costs, and that
problems share the caches. For n <= 8 the four problems of a warp are taken as in step.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path as File
from typing import Any, NamedTuple

from .. import table

FILE = File(__file__).with_name("paths.csv")
RESOURCES = File(__file__).with_name("cuda.csv")

# ---- assumed, none of it measured

LATENCY = {  # cycles from an instruction to one that needs its result
    "integer": 5,
    "double": 8,
    "product": 26,  # mma.m8n8k4 of doubles
    "division": 110,  # with roots: an approximate one, and a chain of nine sums of products
    "approximate": 36,
    "shuffle": 25,
    "barrier": 20,
    "warp_barrier": 6,
    "shared": 30,
    "local": 40,
    "global": 250,  # from the L2 cache
}
WARP = 32
ISSUED, QUARTERS = 1, 4  # instructions in a cycle by each of so many schedulers of a multiprocessor


@dataclass(frozen=True)
class Card:
    """What is known of a GPU by its data sheet."""

    name: str
    architecture: int
    multiprocessors: int
    gigahertz: float
    gbytes: float  # of memory, per second
    shared: int  # bytes of a multiprocessor
    busy: Mapping[str, int]  # cycles that an instruction of a warp keeps a quarter's unit busy
    registers: int = 65536
    blocks: int = 32
    reserved: int = 1024  # bytes of shared memory that each block has besides its own

    @property
    def tflops(self) -> float:
        """The most 10^12 operations on doubles in a second, tensor cores aside."""
        return 2 * WARP * QUARTERS / self.busy["double"] * self.multiprocessors * self.gigahertz / 1e3


CARDS = {
    80: Card("A100", 80, 108, 1.41, 1555, 164 << 10, {"double": 4, "product": 16, "division": 36}),
    90: Card("H100", 90, 132, 1.98, 3350, 228 << 10, {"double": 2, "product": 8, "division": 18}),
}
ACCESS = 2  # cycles in which a multiprocessor serves a warp's access to memory, eight bytes for each lane

# ---- the model


def occupied(executed: Any, card: Card, access: float = ACCESS) -> dict[str, float]:
    """Cycles for which instructions, counted by the names of :class:`Path`, keep the parts of a multiprocessor busy."""
    kept = sum(getattr(executed, unit) * cycles for unit, cycles in card.busy.items())
    issued = executed.instructions / QUARTERS / ISSUED
    return {"issue": issued, "doubles": kept / QUARTERS, "accesses": executed.accesses * access}


@dataclass(frozen=True)
class Path:
    """A problem of some size, solved by so many threads: a row of paths.csv, means over a few problems."""

    source: str  # digest of the kernels
    architecture: int  # of the card: the more shared memory it has, the more of a problem is there
    n: int
    rows: int
    threads: int
    launched: int  # 1 where the kernels are launched so
    problems: int  # of a block
    shared: int  # bytes that a block is launched with
    steps: float
    operations: float  # of the steps, each new factor with its assembly
    instructions: float  # of warps
    double: float  # the same, among them
    product: float
    division: float
    accesses: float  # of warps, to shared, local and global memory
    cycles: float  # alone, by the latencies above
    on_integer: float  # results on the longest chain
    on_double: float
    on_product: float
    on_division: float
    on_approximate: float
    on_shuffle: float
    on_barrier: float
    on_warp_barrier: float
    on_shared: float
    on_local: float
    on_global: float

    def alone(self, latency: Mapping[str, float]) -> float:
        """Cycles of the problem by itself: with other latencies than above the least that it can be."""
        return self.cycles + sum(getattr(self, f"on_{unit}") * (latency[unit] - LATENCY[unit]) for unit in LATENCY)

    def busy(self, card: Card) -> dict[str, float]:
        """Cycles for which the problem keeps the parts of a multiprocessor busy, and the memory of the card."""
        data = 8 * (self.n**2 + self.rows * self.n)
        of_memory = data / card.gbytes * card.gigahertz * card.multiprocessors
        return occupied(self, card) | {"data": of_memory}


class Time(NamedTuple):
    """Microseconds of a problem, of many on the whole card."""

    resident: int  # problems of a multiprocessor
    best: float
    worst: float
    floor: float  # of the operations, on the units for doubles that are no tensor cores
    busiest: str


@cache
def resources() -> dict[tuple[int, int], dict[str, str]]:
    """What the forward in double precision needs on the chip, by threads and architecture."""
    lines = table.read(RESOURCES)
    return {
        (int(line["threads"]), int(line["architecture"])): line
        for line in lines
        if (line["kernel"], line["scalar"]) == ("forward", "double")
    }


def resident(path: Path, card: Card) -> int:
    """The problems that a multiprocessor holds at once."""
    needs = resources()[path.threads, card.architecture]
    of_block = path.shared + int(needs["shared"]) + card.reserved
    by_registers = card.registers // (int(needs["registers"]) * path.threads * path.problems)
    return min(by_registers, card.shared // of_block, card.blocks) * path.problems


def time(path: Path, card: Card, latency: Mapping[str, float] = LATENCY) -> Time:
    """The time of a problem on a card by the model."""
    alone, busy, many = path.alone(latency), path.busy(card), resident(path, card)
    busiest = max(busy, key=lambda part: busy[part])
    most = busy[busiest]
    to_microseconds = 1e-3 / card.gigahertz / card.multiprocessors
    best, worst = max(alone / many, most), (alone + (many - 1) * most) / many
    limit = busiest if most > alone / many else "latency"
    return Time(many, best * to_microseconds, worst * to_microseconds, path.operations / card.tflops / 1e6, limit)


def paths(card: Card) -> list[Path]:
    """The rows of paths.csv of a card."""
    return [path for path in table.parsed(FILE, Path) if path.architecture == card.architecture]


def launched(card: Card) -> dict[int, Path]:
    """By the number of variables, the paths with the threads that the kernels are launched with now."""
    return {path.n: path for path in paths(card) if path.launched}


def launch_table(card: Card, latency: Mapping[str, float] = LATENCY) -> dict[int, Path]:
    """The threads for each n by which a problem takes the least time, at worst."""
    found: dict[int, list[Path]] = {}
    for path in paths(card):
        found.setdefault(path.n, []).append(path)
    return {n: min(some, key=lambda path: time(path, card, latency).worst) for n, some in found.items()}


def shown(latencies: Mapping[int, Mapping[str, float]]) -> str:
    """A table of all rows and cards; the launch table's rows are marked."""
    head = ["card", "n", "threads", "resident", "us per QP, at best", "at worst", "times the floor", "limited by", ""]
    lines = []
    for architecture, latency in latencies.items():
        card = CARDS[architecture]
        chosen = launch_table(card, latency).values()
        for path in paths(card):
            t = time(path, card, latency)
            cells = [card.name, path.n, path.threads, t.resident, f"{t.best:.3g}", f"{t.worst:.3g}"]
            lines.append([*cells, f"{t.worst / t.floor:.3g}", t.busiest, "least" if path in chosen else ""])
    return table.markdown(head, lines)


if __name__ == "__main__":
    print(shown(dict.fromkeys(CARDS, LATENCY)))
