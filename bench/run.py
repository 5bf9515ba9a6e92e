"""Every case on every solver: ``python -m bench.run``; see README.md."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from . import cases, floor
from .cases import CASES, SIZES
from .measure import Run
from .processes import Worker
from .rows import Row, environment, store
from .solvers import OURS, SOLVERS, adapter
from .table import markdown, read


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures, stores the rows of each case when it is done, prints the table; 1 where an answer of ours is wrong."""
    args = parse(arguments)
    peak = floor.probe(args.device)
    print(f"measured peak: {peak.gflops:.0f} Gflop/s in float64, {peak.gbytes:.0f} GB/s", flush=True)
    done = _done(args.out, args.device) if args.size == "full" else set()
    todo = [case for case in args.cases if not {(case, name) for name in args.solvers} <= done]
    workers = {name: Worker(name, args.device, SIZES[args.size].patience) for name in args.solvers}
    rows: list[Row] = []
    with tqdm(total=len(todo) * (len(workers) + SIZES[args.size].rounds), unit="step") as progress:
        run = Run(args.size, args.device, peak, workers, progress)
        for case in todo:
            found = run.rows(case)
            rows += found
            if args.out:
                store(args.out, found)
    for worker in workers.values():
        worker.close()
    print(printed(rows))
    ours = (row.verdict for row in rows if row.solver.startswith(OURS))
    return int(any(verdict != "ok" and "cannot run here" not in verdict for verdict in ours))


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.run", description="This library and its peers, side by side")
    sizes = parser.add_mutually_exclusive_group()
    known = {"quick": "a few cases, small batches, few repeats", "tiny": "all small cases, for the Triton interpreter"}
    for size, what in known.items():
        says = f"{what}; no rows written unless --out"
        sizes.add_argument(f"--{size}", dest="size", action="store_const", const=size, default="full", help=says)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--cases", nargs="+", choices=CASES, metavar="CASE", help=", ".join(CASES))
    parser.add_argument("--solvers", nargs="+", choices=SOLVERS, metavar="SOLVER", help=", ".join(SOLVERS))
    where = "the file that the rows go to; cases that it has already at this commit are left out of a full run"
    parser.add_argument("--out", type=Path, help=f"{where} (results/DEVICE.csv)")
    args = parser.parse_args(arguments)
    args.cases = args.cases or cases.names(args.size)
    args.solvers = args.solvers or [name for name in SOLVERS if args.device in adapter(name).devices]
    if args.out is None and args.size == "full":
        args.out = Path(__file__).parent / "results" / f"{args.device}.csv"
    return args


def _done(path: Path, device: str) -> set[tuple[str, str]]:
    """The cases and solvers that the file has at this commit, on this machine."""
    here = environment(device)
    if here["commit"].endswith("+"):
        return set()
    same = ("commit", "machine", "device")
    return {(x["case"], x["solver"]) for x in read(path) if all(x[name] == here[name] for name in same)}


def printed(rows: list[Row]) -> str:
    """Each solver beside this library: "ours" is how many times as fast this library is."""
    ours = {(row.case, row.phase): row.ms for row in rows if row.solver == OURS and row.ms}
    lines = []
    for r in rows:
        base = ours.get((r.case, r.phase))
        times = (f"{r.ms:.4g}", f"{r.ms / base:.2f}x" if base else "", f"{r.solved:.1%}") if r.ms else ("", "", "")
        error = "" if r.gradient_error is None else f"{r.gradient_error:.1e}"
        lines.append([r.case, r.solver, r.phase, r.batch or "", *times, error, r.verdict])
    head = ["case", "solver", "phase", "batch", "ms per QP", "ours", "solved", "gradient error", "verdict"]
    return markdown(head, lines)


if __name__ == "__main__":
    sys.exit(main())
