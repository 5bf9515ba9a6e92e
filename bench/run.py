"""Every case on every solver: ``python -m bench.run``; see README.md."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from .cases import CASES
from .gradient import relative_error
from .processes import Worker
from .rows import Row, append, environment, judge, times_per_qp
from .solvers import OURS, SOLVERS, adapter

RESULTS = Path(__file__).parent / "results" / "cpu.csv"
ROUNDS, QUICK_ROUNDS = 9, 3
QUICK_DIVISOR = 8  # of the batches


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures, prints the table, appends the rows; 1 where this library's own answers fail their check."""
    args = parse(arguments)
    divisor, rounds = (QUICK_DIVISOR, QUICK_ROUNDS) if args.quick else (1, ROUNDS)
    pairs = {case: [name for name in args.solvers if adapter(name).supports(CASES[case])] for case in args.cases}
    questions = sum(bool(CASES[case].gradients) + len(names) * (1 + rounds) for case, names in pairs.items())
    rows: list[Row] = []
    with tqdm(total=questions, unit="solve") as progress:
        for case, names in pairs.items():
            rows += measure(case, names, divisor, rounds, args.threads, progress)
    print(table(rows))
    if not args.quick:
        append(args.out, rows)
    return int(any(row.solver == OURS and row.verdict != "ok" for row in rows))


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.run", description="This library and its peers, side by side")
    parser.add_argument("--quick", action="store_true", help="small batches, few repeats, no rows written")
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES), metavar="CASE", help=", ".join(CASES))
    parser.add_argument(
        "--solvers", nargs="+", choices=SOLVERS, default=list(SOLVERS), metavar="SOLVER", help=", ".join(SOLVERS)
    )
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="of each solver; all cores by default")
    parser.add_argument("--out", type=Path, default=RESULTS, help="the file that rows are appended to")
    return parser.parse_args(arguments)


def measure(case: str, names: list[str], divisor: int, rounds: int, threads: int, progress: tqdm) -> list[Row]:
    """The rows of one case: each solver is checked, which warms it up, then they are timed in turn."""
    where = environment()
    reference = ask_once("reference", case, divisor, threads, progress) if CASES[case].gradients else {}
    workers = {name: Worker(name, case, divisor, threads) for name in names}
    checks = {name: ask(worker, "check", f"{case}: {name}", progress) for name, worker in workers.items()}
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(rounds):
        for name, worker in workers.items():
            answer = ask(worker, "time", f"{case}: {name}", progress)
            seconds[name] += [answer["seconds"]] if "seconds" in answer else []
    failures = {name: worker.failure for name, worker in workers.items()}
    for worker in workers.values():
        worker.close()
    return [row(where, case, name, divisor, checks[name], reference, seconds[name], failures[name]) for name in names]


def ask_once(name: str, case: str, divisor: int, threads: int, progress: tqdm) -> dict[str, Any]:
    """What a process of its own says to "check"."""
    worker = Worker(name, case, divisor, threads)
    answer = ask(worker, "check", f"{case}: {name}", progress)
    worker.close()
    return answer


def ask(worker: Worker, question: str, title: str, progress: tqdm) -> dict[str, Any]:
    """The worker's answer, shown on the progress bar."""
    progress.set_description(title)
    answer = worker.ask(question)
    progress.update()
    return answer


def row(
    where: dict[str, Any],
    case: str,
    name: str,
    divisor: int,
    check: dict[str, Any],
    reference: dict[str, Any],
    seconds: list[float],
    failure: str | None,
) -> Row:
    """The row of one solver: its times and what its answers are worth, or why it has none."""
    qp = CASES[case].problems(divisor)
    sizes = {"n": qp.n, "n_eq": qp.n_eq, "n_in": qp.n_in, "n_box": qp.n_box, "batch": qp.batch}
    known = where | sizes | {"case": case, "solver": name, "phase": CASES[case].phase}
    failure = failure or reference.get("failure")
    if failure:
        return Row(**known, verdict=failure)
    derivatives = check.pop("derivatives")
    error = relative_error(derivatives, reference["derivatives"]) if reference else None
    times = times_per_qp(seconds, qp.batch)
    verdict = judge(check["solved"], error)
    return Row(**known, **check, **times, repeats=len(seconds), gradient_error=error, verdict=verdict)


def table(rows: list[Row]) -> str:
    """Each solver beside this library: "ours" is how many times as fast this library is."""
    ours = {row.case: row.ms_per_qp_p50 for row in rows if row.solver == OURS}
    lines = [f"{'case':12} {'solver':17} {'ms per QP':>10} {'ours':>7} {'solved':>7} {'gradient error':>14}  verdict"]
    for r in rows:
        ms, base = r.ms_per_qp_p50, ours.get(r.case)
        ratio = f"{ms / base:.2f}x" if ms and base else ""
        numbers = (f"{ms:.4g}" if ms else "", ratio, "" if r.solved is None else f"{r.solved:.1%}")
        error = "" if r.gradient_error is None else f"{r.gradient_error:.1e}"
        lines.append("{:12} {:17} {:>10} {:>7} {:>7} {:>14}  {}".format(r.case, r.solver, *numbers, error, r.verdict))
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
