"""From the rows of a run, pictures and a summary: ``python -m bench.report``.

It writes docs/bench/*.png and results/summary.md for the CPU; for another device, docs/bench/DEVICE/ and
results/summary-DEVICE.md. Only right answers are compared; a dot whose gradient is wrong is hollow.
"""

import argparse
from pathlib import Path
from statistics import median

from .pictures import draw
from .points import BY_BATCH, BY_N, Results, Sweep, load, slope
from .rows import Row
from .solvers import NAMES, OURS
from .table import markdown

ROOT = Path(__file__).parents[1]


def summary(results: Results) -> str:
    """Markdown: the speed-ups, how the cost grows, the distance from the floor, and all cases."""
    last, loads = results.rows[-1], [row.load for row in results.rows]
    parts = [
        f"# Results\n\nWritten by `python -m bench.report`. {results.machine}. "
        f"PyTorch {last.torch}, Python {last.python}. The machine was seen to do {last.gflops} Gflop/s in "
        f"float64 and to copy {last.gbytes} GB/s. Load while measuring: {median(loads):.2g} in the median, "
        f"{max(loads):.2g} at most.",
        "## Speed-up against each peer\n\nThe time of the peer by the time of this library, over the cases in which "
        "both are right: median, and from the least to the most.",
        _speedups(results),
        f"## How the cost grows\n\nThe power of n (n = {_range_of(results, BY_N)}) with which the time of one QP "
        f"grows, and of the batch ({_range_of(results, BY_BATCH)}, n = 16) with which that of all grows, as slopes in "
        "logarithms; forward, over the sizes that each solver was right at.",
        _slopes(results),
        "## Against the floor\n\nForward of this library by the least time of its arithmetic and its data (floor.py).",
        _floors(results),
        "## All cases\n\nMilliseconds per QP, forward / forward and backward. A note says what is wrong with a time.",
        _cases(results),
    ]
    return "\n\n".join(parts) + "\n"


def _speedups(results: Results) -> str:
    forward, both = results.speedups("forward"), results.speedups("both")
    rows = [[NAMES[name], _range(forward[name]), _range(both.get(name, []))] for name in NAMES if name in forward]
    return markdown(["peer", "forward", "forward and backward"], rows)


def _range(ratios: list[tuple[float, bool]]) -> str:
    right = [ratio for ratio, ok in ratios if ok]
    if not right:
        return "no right gradients" if ratios else ""
    return f"{median(right):.1f} ({min(right):.2g} to {max(right):.3g}, {len(right)} cases)"


def _range_of(results: Results, by: Sweep) -> str:
    sizes = [by.size(p) for p in results.sweep("forward", by)[OURS]]
    return f"{sizes[0]} to {sizes[-1]:,}"


def _slopes(results: Results) -> str:
    sweeps = [(by, results.sweep("forward", by)) for by in (BY_N, BY_BATCH)]

    def power(by: Sweep, points: list[Row]) -> str:
        return f"{slope(list(map(by.size, points)), list(map(by.cost, points))):.2f}" if len(points) > 2 else ""

    shown = [name for name in NAMES if name in sweeps[0][1]]
    rows = [[NAMES[name], *(power(by, found.get(name, [])) for by, found in sweeps)] for name in shown]
    return markdown(["solver", "in n", "in the batch"], rows)


def _floors(results: Results) -> str:
    found = results.floors()
    rows = [[case, f"{1e3 * ms:.3g}", f"{1e3 * floor:.3g}", f"{ratio:.1f}"] for case, ms, floor, ratio in found]
    return markdown(["case", "µs per QP", "floor", "times"], rows)


def _cases(results: Results) -> str:
    cells: dict[str, dict[str, list[Row]]] = {}
    for row in results.rows:
        cells.setdefault(row.case, {}).setdefault(row.solver, []).append(row)
    solvers = [name for name in NAMES if any(name in row for row in cells.values())]
    rows = [[case, *(_cell(row.get(name, [])) for name in solvers)] for case, row in cells.items()]
    return markdown(["case", *(NAMES[name] for name in solvers)], rows)


def _cell(rows: list[Row]) -> str:
    times = {row.phase: row.ms for row in rows if row.ms}
    shown = " / ".join(f"{times[phase]:.3g}" for phase in ("forward", "both") if phase in times)
    notes = sorted({row.verdict for row in rows} - {"ok"})
    notes += list(dict.fromkeys(f"{row.batch} of {row.asked}" for row in rows if row.ms and row.batch != row.asked))
    return f"{shown} ({'; '.join(notes)})".strip() if notes else shown


def main() -> None:
    """Draws and writes."""
    parser = argparse.ArgumentParser(prog="python -m bench.report", description=__doc__.split("\n")[0])
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--rows", type=Path, help="a results file other than results/DEVICE.csv")
    args = parser.parse_args()
    stored, suffix = ROOT / "bench" / "results", "" if args.device == "cpu" else args.device
    results = load(args.rows or stored / f"{args.device}.csv")
    folder = ROOT / "docs" / "bench" / suffix
    folder.mkdir(parents=True, exist_ok=True)
    draw(results, folder)
    (stored / f"summary{'-' * bool(suffix)}{suffix}.md").write_text(summary(results))


if __name__ == "__main__":
    main()
