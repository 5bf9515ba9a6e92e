"""How long a problem takes by the emulator's clock, and what takes so long: bench/chip/paths.csv.

    PYTHONPATH=.:tests python -m gpu.paths

solves problems of the benchmark's family "mixed" with several numbers of threads, on each card of the model. Times are
homogeneous in the latencies, so that their derivatives, by a small step of each, are the numbers of results on the
longest chain.
"""

from __future__ import annotations

import importlib
from collections import Counter
from collections.abc import Mapping

import pytest
import torch
from helpers import as_rows

import qplayer_gpu as qp
from bench import families, floor
from bench.chip import model, variants
from bench.problems import QP
from qplayer_gpu.kernels.cuda import source

from . import cases, on_cupy, timed
from .emulated import Emulation, Launch

THREADS = {8: (8, 32), 16: (8, 32, 64), 32: (32, 64), 64: (64, 128), 128: (64, 128, 256)}
EACH = 4  # problems, one after the other, by the same threads
STEP = 0.01  # of a latency, relative
HOLDS = 1e-9  # the least multiplier of a row that holds


def solved(problems: QP, threads: int, emulation: Emulation) -> tuple[Launch, float, float]:
    """The launch, the mean of the steps, and of the rows that hold with equality.

    Raises:
        RuntimeError: some are not solved.
    """
    kernels = importlib.import_module("qplayer_gpu.kernels.cuda")
    kernels.launch.__globals__["threads_of"] = lambda n: threads
    rows = as_rows(problems.arrays())
    answer = kernels.forward(rows, qp.Settings().options(torch.float64, cases.CPU), None)
    if emulation.findings or answer.status.any():
        raise RuntimeError(f"n = {problems.n} by {threads} threads: {answer.status}, {emulation.findings}")
    holding = (answer.point.z.abs() > HOLDS).double().sum(1)
    return emulation.launches[-1], answer.iterations.double().mean().item(), holding.mean().item()


def path(n: int, threads: int, card: model.Card, emulation: Emulation) -> model.Path:
    """A row of the table."""
    batch = EACH * source.at_once(threads)
    problems = families.mixed(batch, n)
    stored = problems.n_eq + problems.n_in

    def run(latency: Mapping[str, float]) -> tuple[Launch, float, float]:
        timed.assume("latency", latency)
        return solved(problems, threads, emulation)

    timed.assume("busy", card.busy)
    launch, steps, active = run(model.LATENCY)
    on_chain = {
        f"on_{unit}": (run({**model.LATENCY, unit: (1 + STEP) * latency})[0].cycles - launch.cycles)
        / (STEP * latency * EACH)
        for unit, latency in model.LATENCY.items()
    }
    kinds: Counter[str] = Counter()
    for (_, kind), count in launch.counts.items():
        kinds[kind] += count / source.WARP / batch  # type: ignore[assignment]
    share = floor.factored(problems.head(EACH), qp.Settings())
    operations = floor.operations(n, stored, active, steps, share) + n**2 * active * (steps * share - 1)
    counted = {kind: kinds[kind] for kind in timed.COUNTED}
    launched = int(source.threads_of(n) == threads)
    return model.Path(
        source.digest(),
        card.architecture,
        n,
        stored,
        threads,
        launched,
        source.at_once(threads),
        launch.shared,
        steps,
        operations,
        **counted,
        cycles=launch.cycles / EACH,
        **on_chain,
    )


def main() -> None:
    """Writes the table."""
    torch.set_num_threads(1)
    found = []
    for card in model.CARDS.values():
        with pytest.MonkeyPatch.context() as patch:
            emulation = on_cupy.emulate(patch, card.architecture)
            patch.setattr(on_cupy, "Program", timed.TimedProgram)
            for n, several in THREADS.items():
                for threads in several:
                    found.append(path(n, threads, card, emulation))
                    print(found[-1], flush=True)
    variants.write(model.FILE, found)


if __name__ == "__main__":
    main()
