"""What a call costs from Python, cold and warm, and a batch beside another process: ``python -m bench.calls``.

It writes results/calls.csv and prints the table of bench/README.md: microseconds, of one problem on one thread, and of
batches on all; a batch is *busy* while another process keeps a core busy. Each time is the median over calls in a row,
of which x alone is read, or *all parts* of the answer.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from time import perf_counter, sleep

import torch
from torch import Tensor

from qplayer_gpu import QPLayer

from .families import mixed
from .rows import environment
from .table import markdown, read, write

FILE = Path(__file__).parent / "results" / "calls.csv"
ONE, BATCHES = (4, 8, 16, 32), ((4, 1024), (16, 64), (16, 1024), (64, 256))  # n, and n with the batch
SECONDS = 1.0  # for each figure
WHERE = ("date", "commit", "machine", "cores", "load", "python", "torch")


@dataclass(frozen=True)
class Call:
    """A line of the table: times in microseconds, None where that time is not measured for such a line."""

    n: int
    batch: int
    cold: float
    warm: float | None = None
    parts: float | None = None  # cold, with all parts of the answer
    both: float | None = None  # forward and backward for the gradients of all arrays
    busy: float | None = None


def microseconds(work: Callable[[], object]) -> float:
    """The median time of a call, over calls in a row for SECONDS."""
    found: list[float] = []
    work()
    end = perf_counter() + SECONDS
    while (began := perf_counter()) < end or not found:
        work()
        found.append(perf_counter() - began)
    return 1e6 * median(found)


def one(n: int) -> Call:
    """One problem on one thread. The warm start is the answer to the same problem with g changed by a thousandth."""
    torch.set_num_threads(1)
    arrays, layer = mixed(1, n).arrays(), QPLayer()
    near = layer(**arrays | {"g": 1.001 * arrays["g"]})
    leaves = {name: array.clone().requires_grad_() for name, array in arrays.items()}
    grad_x = torch.ones_like(near.x)

    def both() -> tuple[Tensor, ...]:
        return torch.autograd.grad(layer(**leaves).x, list(leaves.values()), grad_x)

    def parts() -> list[object]:
        solution = layer(**arrays)
        return [getattr(solution, field.name) for field in fields(solution)]

    cold, warm = (microseconds(partial(layer, **arrays, warm_start=start)) for start in (None, near))
    return Call(n, 1, cold, warm, microseconds(parts), microseconds(both))


def several(n: int, batch: int, threads: int) -> Call:
    """A batch: while this process has the machine to itself, and while another process keeps a core busy."""
    torch.set_num_threads(threads)
    arrays, layer = mixed(batch, n).arrays(), QPLayer()
    quiet = microseconds(lambda: layer(**arrays))
    with another_process():
        return Call(n, batch, quiet, busy=microseconds(lambda: layer(**arrays)))


@contextmanager
def another_process() -> Iterator[None]:
    """Keeps a core busy by another process for as long as the context lasts."""
    process = get_context("spawn").Process(target=_compute, daemon=True)
    process.start()
    sleep(1.0)
    yield
    process.kill()
    process.join()


def _compute() -> None:
    while True:
        pass


def table(calls: list[Call]) -> str:
    """The table of bench/README.md, in Markdown."""
    head = ["n", "batch", "cold", "warm", "all parts", "forward and backward", "busy", "busy by quiet"]
    lines = [[*map(_shown, (c.n, c.batch, c.cold, c.warm, c.parts, c.both, c.busy))] for c in calls]
    ratios = ["" if c.busy is None else f"{c.busy / c.cold:.2f}" for c in calls]
    return markdown(head, [[*line, ratio] for line, ratio in zip(lines, ratios, strict=True)])


def _shown(value: float | None) -> str:
    return "" if value is None else f"{value:,.0f}"


def kept() -> list[Call]:
    """The calls of the committed file."""
    names = [field.name for field in fields(Call)]
    found = ({name: float(line[name]) if line[name] else None for name in names} for line in read(FILE))
    return [Call(**line) for line in found]  # type: ignore[arg-type]


def main() -> None:
    """Measures, writes and prints."""
    here, threads = environment("cpu"), torch.get_num_threads()
    where = {name: here[name] for name in WHERE}
    calls = [*map(one, ONE), *(several(n, batch, threads) for n, batch in BATCHES)]
    write(FILE, (*WHERE, *(field.name for field in fields(Call))), [where | asdict(call) for call in calls])
    print(table(calls))


if __name__ == "__main__":
    main()
