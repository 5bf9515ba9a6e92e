"""From the rows of a run, pictures and a summary: ``python -m bench.report``.

It writes docs/bench/*.png and results/summary.md for the CPU; for another device, docs/bench/DEVICE/ and
results/summary-DEVICE.md. Only right answers are compared; a dot whose gradient is wrong is hollow. The figures of
README and docs follow (figures.py).
"""

import argparse
from pathlib import Path
from statistics import median

from . import figures
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
        f"# Results\n\nWritten by `python -m bench.report`. {results.machine}. PyTorch {last.torch}, "
        f"Python {last.python}. The machine reached {last.gflops} Gflop/s in float64 and copied {last.gbytes} GB/s. "
        f"Its load while measuring was {median(loads):.2g} in the median and {max(loads):.2g} at most.",
        "## Speed-up over each peer\n\nThe time of the peer divided by the time of this library, over the cases in "
        "which both are right: the median, and in brackets the smallest and the largest.",
        _speedups(results),
        f"## How the cost grows\n\nThe time of one QP grows with a power of n ({_range_of(results, BY_N)}), that of a "
        f"batch with a power of its size ({_range_of(results, BY_BATCH)}, n = 16): the slopes of the logarithms, "
        "forward, over the sizes at which each solver was right.",
        _slopes(results),
        "## Distance from the floor\n\nThe forward time of this library, and the least time that its arithmetic and "
        "its data could take (floor.py).",
        _floors(results),
        "## All cases\n\nMilliseconds per QP. ✗: not all problems were solved. ∇: a gradient is wrong. A hyphen: the "
        "solver does not take such problems, or failed; the rows say why, and of how much of the batch a time is.",
        "### Forward",
        _cases(results, "forward"),
        "### Forward and backward",
        _cases(results, "both"),
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
    return markdown(["case", "µs per QP", "floor, µs", "ratio"], rows)


def _cases(results: Results, phase: str) -> str:
    cells: dict[str, dict[str, Row]] = {}
    for row in results.rows:
        if row.phase == phase:
            cells.setdefault(row.case, {})[row.solver] = row
    solvers = [name for name in NAMES if any(name in row for row in cells.values())]
    rows = [[case, *(_cell(row.get(name)) for name in solvers)] for case, row in cells.items()]
    return markdown(["case", *(NAMES[name] for name in solvers)], rows)


def _cell(row: Row | None) -> str:
    if row is None:
        return ""
    mark = "" if row.ok else " ✗" if row.solved != 1 else " ∇"
    return f"{row.ms:{'.2g' if row.ms < 100 else '.0f'}}{mark}" if row.ms else "-"


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
    figures.main()


if __name__ == "__main__":
    main()
