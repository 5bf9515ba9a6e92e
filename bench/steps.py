"""Newton steps of the reference, family by family: what a change of the method's schedule saves, and what it costs.

python -m bench.steps                # next to the rows of results/steps.csv
python -m bench.steps --write        # and in their place

A step that keeps the last factor is cheaper than one that makes a new one, so the cost counts it as KEPT of it.
"""

from __future__ import annotations

import argparse
import csv
import importlib
import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

import qplayer_gpu as qp
from qplayer_gpu.kernels import numbers

from . import families

ROOT = Path(__file__).parents[1]
FILE = ROOT / "bench" / "results" / "steps.csv"
sys.path.insert(0, str(ROOT / "tests"))
import published  # noqa: E402
import soak  # noqa: E402

KEPT = 0.6
SMALL = {1: 4, 2: 8, 3: 16}  # n of the tests' families, by seed
Arguments = dict[str, torch.Tensor | None]


def of_tests() -> Iterator[tuple[str, list[Arguments]]]:
    """The families of the soak, and the published problems."""
    for name, (make, _) in soak.FAMILIES.items():
        yield name, [make(16, n, seed) for seed, n in SMALL.items()]
    yield "published", [args for args, _, _ in published.PROBLEMS.values()]


def of_bench() -> Iterator[tuple[str, list[Arguments]]]:
    """The families of the benchmark, at its sizes."""
    cases = {
        "mixed": (4, 8, 16, 32, 64, 128),
        "one_sided": (32, 64),
        "two_sided": (32,),
        "equalities": (32, 64),
        "box": (40, 128),
        "lp": (30,),
        "projection": (20, 64),
        "control": (20, 60),
        "contradictory": (32,),
        "sudoku_lp": (64,),
    }
    for name, sizes in cases.items():
        for n in sizes:
            yield f"{name} {n}", [getattr(families, name)(max(4, 256 // n), n).arrays()]
    heavy = families.dense(1 / 4, 2, "two_sided")
    yield "two_sided, m = 2 n, 64", [heavy(4, 64).arrays()]


@contextmanager
def counted(factors: list[int]) -> Iterator[None]:
    """Counts the steps of problems that are open whose matrix is not that of the step before."""
    forward = importlib.import_module("qplayer_gpu.kernels.reference.forward")
    newton = importlib.import_module("qplayer_gpu.kernels.reference.newton")
    share, step, factor = numbers.COMPACT_SHARE, forward.newton_step, newton.Factor
    last, running = torch.empty(0), None

    def stepping(st, matrices, scaling):
        nonlocal running
        running = st.open
        step(st, matrices, scaling)
        running = None

    def factoring(matrices, weights, diagonal, sigma):
        nonlocal last
        if running is None:
            return factor(matrices, weights, diagonal, sigma)
        key = torch.cat([weights, diagonal], -1)
        new = (key != last).any(-1) if last.shape == key.shape else torch.ones(len(key), dtype=torch.bool)
        factors.append(int((new & running).sum()))
        last = key
        return factor(matrices, weights, diagonal, sigma)

    numbers.COMPACT_SHARE, forward.newton_step, newton.Factor = 1.0, stepping, factoring
    try:
        yield
    finally:
        numbers.COMPACT_SHARE, forward.newton_step, newton.Factor = share, step, factor


def measure(problems: list[Arguments]) -> dict[str, float]:
    """Mean steps, mean steps with a new factor, the cost of both, and the share of problems without an answer."""
    factors: list[int] = []
    steps, count, unsolved = 0, 0, 0
    for arguments in problems:
        with counted(factors):
            answer = qp.solve_qp(**{"H": None, **arguments}, backend="torch")
        status = torch.atleast_1d(answer.status)
        steps, count = steps + int(answer.info.iterations.sum()), count + len(status)
        unsolved += int(torch.isin(status, torch.tensor(soak.UNSOLVED)).sum())
    new = sum(factors)
    cost = new + KEPT * (steps - new)
    return {"steps": steps / count, "factors": new / count, "cost": cost / count, "unsolved": unsolved / count}


def main() -> None:
    """A line for each family, and the geometric mean of the costs next to those in the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="replace the rows of results/steps.csv")
    parser.add_argument("--only", default="", help="families whose names contain this")
    args = parser.parse_args()
    with FILE.open(newline="") as file:
        before = {row["family"]: row for row in csv.DictReader(file)}
    rows, ratios = [], []
    print(f"{'family':24} {'steps':>6} {'factors':>7} {'cost':>6} {'unsolved':>8} {'of before':>9}")
    for name, problems in [*of_tests(), *of_bench()]:
        if args.only not in name:
            continue
        row = measure(problems)
        rows.append({"family": name, **{key: f"{value:.3f}" for key, value in row.items()}})
        old = float(before[name]["cost"]) if name in before else math.nan
        ratio = row["cost"] / old if old else math.nan
        ratios.append(ratio)
        line = f"{row['steps']:6.1f} {row['factors']:7.1f} {row['cost']:6.1f} {row['unsolved']:8.1%} {ratio:9.2f}"
        print(f"{name:24} {line}", flush=True)
    known = [math.log(ratio) for ratio in ratios if ratio > 0]
    if known:
        print(f"{len(known)} families: geometric mean {math.exp(sum(known) / len(known)):.3f} of before")
    if args.write:
        with FILE.open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0], lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)


if __name__ == "__main__":
    main()
