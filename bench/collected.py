"""Problems that others have collected: how many each solver gets right, and how long one call takes.

    git clone https://github.com/osqp/osqp_benchmarks && git clone https://github.com/qpsolvers/mpc_qpbenchmark
    git clone https://github.com/qpsolvers/free_for_all_qpbenchmark
    python -m bench.collected */ */*/   # into results/collected.csv, and the table of docs/evidence.md

The folders are searched for files as these collections have them: ``.mat`` with ``P q A l u``, of the problems of
Maros and Meszaros (1999), and ``.npz`` with ``P q G h A b lb ub``. Problems of up to 256 variables and 512 rows are
taken, each by itself; it wants piqp, proxsuite, daqp and scipy. What is right, and what each solver is asked for, is
as in bench/kinds.py, where all problems count as feasible. A time is the least of three calls, set-up included.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from statistics import geometric_mean
from typing import Any

import numpy as np
import torch
from scipy.io import loadmat

from qplayer_gpu.kernels.numbers import ABSENT_SIDE

from .kinds import optimal
from .rows import environment
from .single import INFEASIBLE, SOLVED, SOLVERS, UNBOUNDED, Arguments, problems
from .table import markdown, read, write

FILE = Path(__file__).parent / "results" / "collected.csv"
LARGEST_N, LARGEST_M = 256, 512
ASKED = [name for name in SOLVERS if name != "before"]
ROUNDS = 3
COLLECTIONS = {
    ".mat": "Maros and Meszaros",
    "LIPMWALK": "walking, model predictive control",
    "WHLIPBAL": "balancing on wheels, model predictive control",
    ".npz": "reported as difficult",
}


def of_maros_meszaros(path: Path) -> Arguments | None:
    """``l <= A x <= u``, whose last rows are the bounds; rows with equal sides become equalities. None if too large."""
    file = loadmat(path)
    n = file["P"].shape[0]
    if n > LARGEST_N or file["A"].shape[0] > LARGEST_M + n:
        return None
    P, rows = file["P"].toarray(), file["A"].toarray()
    l, u = (file[k].ravel().astype(float) for k in "lu")
    l, u = np.where(l > -ABSENT_SIDE, l, -np.inf), np.where(u < ABSENT_SIDE, u, np.inf)
    count = len(rows) - n
    equal = l[:count] == u[:count]
    arrays = {"H": P, "g": file["q"].ravel(), "A": rows[:count][equal], "b": l[:count][equal]}
    arrays |= {"C": rows[:count][~equal], "l": l[:count][~equal], "u": u[:count][~equal]}
    return _tensors(arrays | {"lb": l[count:], "ub": u[count:]})


def of_qpsolvers(path: Path) -> Arguments | None:
    """``G x <= h``, ``A x = b`` and bounds, of which some may be None; None if too large."""
    file = np.load(path, allow_pickle=True)
    names = {"P": "H", "q": "g", "A": "A", "b": "b", "G": "C", "h": "u", "lb": "lb", "ub": "ub"}
    given = {name: file[theirs] for theirs, name in names.items() if theirs in file and file[theirs].ndim}
    counts = [len(np.atleast_2d(given[name])) for name in "AC" if name in given]
    if len(given["g"]) > LARGEST_N or sum(counts) > LARGEST_M:
        return None
    return _tensors({name: np.atleast_2d(a) if name in "HAC" else a for name, a in given.items()})


def _tensors(arrays: dict[str, np.ndarray]) -> Arguments:
    return {name: torch.tensor(np.asarray(a, float)) for name, a in arrays.items() if a.shape[0]}


READERS = {".mat": of_maros_meszaros, ".npz": of_qpsolvers}


def found_in(folders: list[Path]) -> Iterator[tuple[str, str, Arguments]]:
    """The collection, the name and the arguments of each problem, by name."""
    files = {path.stem: path for folder in folders for path in folder.iterdir() if path.suffix in READERS}
    for name, path in sorted(files.items()):
        arguments = READERS[path.suffix](path)
        if arguments is not None:
            yield next(title for key, title in COLLECTIONS.items() if key in path.name), name, arguments


def measure(collection: str, name: str, arguments: Arguments) -> Iterator[dict[str, Any]]:
    """A row for each solver."""
    arguments = arguments | {"g": arguments["g"].unsqueeze(0)}  # a batch of one
    batch = problems(arguments, 1)
    count = sum(len(arguments[k]) for k in "AC" if k in arguments)
    about = {"collection": collection, "problem": name, "n": len(batch[0]["g"]), "rows": count}
    for solver in ASKED:
        _, package, solve = SOLVERS[solver]
        seconds = []
        for _ in range(ROUNDS):
            start = time.perf_counter()
            ((x, said),) = solve(batch, arguments)
            seconds.append(time.perf_counter() - start)
        right = said == SOLVED and optimal(batch[0], x, may_shift=False)
        claimed = said in (SOLVED, INFEASIBLE, UNBOUNDED) and not right
        ours = {"solver": solver, "version": version(package), "right": right, "claimed": claimed}
        yield about | ours | {"ms": 1e3 * min(seconds)}


def table() -> str:
    """As in docs/evidence.md: right, in brackets what is claimed but not so; the mean time beside this library's."""
    rows = read(FILE)
    lines = []
    for title in COLLECTIONS.values():
        cells = []
        for solver in ASKED:
            mine = [row for row in rows if (row["collection"], row["solver"]) == (title, solver)]
            claimed = sum(row["claimed"] == "True" for row in mine)
            cells.append(f"{sum(row['right'] == 'True' for row in mine)}" + (f" ({claimed})" if claimed else ""))
        lines.append([title, len({row["problem"] for row in rows if row["collection"] == title}), *cells])
    times = {name: {row["problem"]: float(row["ms"]) for row in rows if row["solver"] == name} for name in ASKED}
    here = {row["problem"] for row in rows if row["solver"] == "now" and row["right"] == "True"}
    ratios = [f"{geometric_mean(times[name][p] / times['now'][p] for p in here):.1f}" for name in ASKED]
    lines.append(["time of a call, mean ratio", "", *ratios])
    return markdown(
        ["collection", "problems", *("this library" if s == "now" else SOLVERS[s][0] for s in ASKED)], lines
    )


def main() -> None:
    """Measures all, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path)
    torch.set_num_threads(1)
    here = {name: value for name, value in environment("cpu").items() if name in ("machine", "commit", "load")}
    rows = [row | here for problem in found_in(parser.parse_args().folders) for row in measure(*problem)]
    write(FILE, rows[0], rows)
    print(table())


if __name__ == "__main__":
    main()
