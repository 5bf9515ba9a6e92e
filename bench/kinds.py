"""How many problems of the kinds in tests/reported.py each solver gets right: the table of docs/evidence.md.

    python -m bench.kinds    # all solvers, into results/kinds.csv; wants piqp, proxsuite, daqp and scipy

An earlier commit of this library is measured in a worktree of it, with this bench/ and tests/ copied into that:

    python -m bench.kinds --solvers before --without weighted    # 60053ed; weights were settings then

Each solver gets the same problems, of n = 4 to 16, is asked for 1e-9 without a relative part, and is left to its other
defaults, but for 100 outer iterations of ProxQP at most: 1,000 took seconds for a problem of two kinds, and solved five
more of 1,040 of the others. An answer is right if the solver says that it is solved and its x is right. That is judged
from x and the data alone, each residual next to TOLERANCE times 1 and the terms that it is the sum of:

- no row is violated by more, and there are multipliers, with the signs that go with the sides, that leave no more of
  ``H x + g + G'z``, nor of the gap: the sum of multipliers times distances from their sides, as far as these are
  larger (scipy's nnls looks for the multipliers that leave least of both);
- where the problem is infeasible, or nearly so, larger violations s are right as well if they are the closest: no more
  is left of ``G'(w s)``, and multipliers of these rows may have either sign. There to say "infeasible" is right too;
- where H is indefinite and nothing bounds x, right is to say that it is, or that the problem is unbounded.

The rest is "unsaid" where x is right but the status says that no tolerance was reached, and "claimed" where the solver
says that the problem is solved, infeasible or unbounded, and it is not so.
"""

from __future__ import annotations

import argparse
import csv
import sys
from importlib.metadata import version
from itertools import dropwhile
from pathlib import Path

import numpy as np
from scipy.optimize import nnls

import qplayer_gpu as qp

from .single import FAILED, INFEASIBLE, SOLVED, SOLVERS, UNBOUNDED, Found, Problem, problems

ROOT = Path(__file__).parents[1]
FILE = ROOT / "bench" / "results" / "kinds.csv"
sys.path.insert(0, str(ROOT / "tests"))
import soak  # noqa: E402

KINDS = list(dropwhile(lambda name: name != "large-cost", soak.FAMILIES))  # those from reported.py
SIZES = {1: 4, 2: 7, 3: 10, 4: 13, 5: 16}  # n by seed
BATCH = 60
TOLERANCE, LARGEST = 1e-6, 1e100


def optimal(p: Problem, x: np.ndarray, may_shift: bool) -> bool:
    """Whether x is the solution, or that of the closest feasible problem."""
    if not (np.abs(x) < LARGEST).all():
        return False
    n, n_in = len(x), len(p["l"])
    G = np.vstack([p["A"], p["C"], np.eye(n)])
    lo, hi = (np.concatenate([p["b"], p[a], p[b]]) for a, b in (("l", "lb"), ("u", "ub")))
    w = np.concatenate([p["w_eq"], np.ones(n_in + n)])
    Gx, near = G @ x, TOLERANCE * (1 + np.abs(G) @ np.abs(x))
    s = Gx - np.clip(Gx, lo, hi)
    shifted = np.abs(s) > near
    if shifted.any():
        balanced = np.abs(G.T @ (w * s)) <= TOLERANCE * (1 + np.abs(G).T @ (w * np.abs(s)))
        if not (may_shift and balanced.all()):
            return False
    Hx, size_Hx = p["H"] @ x, np.abs(p["H"]) @ np.abs(x)
    terms = np.append(1 + size_Hx + np.abs(p["g"]), 1 + np.abs(x) @ (size_Hx + np.abs(p["g"])))
    above, below = (np.where(shifted | (far <= near), 0.0, far) for far in (hi - Gx, Gx - lo))
    rows = [np.column_stack([sign * G, far])[np.isfinite(far)] for sign, far in ((1, above), (-1, below))]
    columns, left = np.vstack(rows).T / terms[:, None], np.append(Hx + p["g"], 0.0) / terms
    columns = columns / np.maximum(np.linalg.norm(columns, axis=0), np.finfo(float).tiny)
    if columns.size:
        left = left + columns @ nnls(columns, -left, maxiter=100 * columns.shape[1])[0]
    return bool((np.abs(left) <= TOLERANCE).all())


def right(p: Problem, found: Found, expected: list[qp.Status]) -> bool:
    """Whether an answer is right by the rules at the top of this file."""
    x, said = found
    if qp.Status.UNBOUNDED in expected:
        return said in (UNBOUNDED, FAILED)
    infeasible = qp.Status.SOLVED_CLOSEST_FEASIBLE in expected
    if said in (INFEASIBLE, UNBOUNDED):
        return said == INFEASIBLE and infeasible
    return optimal(p, x, infeasible)


def measure(kind: str, solver: str) -> dict[str, str | int]:
    """Counts the right, unsaid and claimed answers of a solver to the problems of a kind: a row of the table."""
    make, expected = soak.FAMILIES[kind]
    statuses = list(expected) if isinstance(expected, tuple) else [expected]
    row = {"problems": 0, "right": 0, "unsaid": 0, "claimed": 0}
    for seed, n in SIZES.items():
        arguments = make(BATCH, n, seed)
        batch = problems(arguments, BATCH)
        for p, found in zip(batch, SOLVERS[solver][2](batch, arguments), strict=True):
            good, said = right(p, found, statuses), found[1] != ""
            claims = found[1] in (SOLVED, INFEASIBLE, UNBOUNDED)
            counted = (1, good and said, good and not said, claims and not good)
            row = {k: row[k] + one for k, one in zip(row, counted, strict=True)}
    return {"kind": kind, "solver": solver, "version": version(SOLVERS[solver][1]), **row}


def table(rows: list[dict[str, str]]) -> str:
    """The table of docs/evidence.md: how many are right, and in brackets how many are claimed, but not so."""
    found = {(row["kind"], row["solver"]): row for row in rows}

    def cell(kind: str, solver: str) -> str:
        row = found.get((kind, solver))
        return "-" if row is None else row["right"] + (f" ({row['claimed']})" if row["claimed"] != "0" else "")

    lines = [["kind", *(SOLVERS[name][0] for name in SOLVERS)], ["---"] * (1 + len(SOLVERS))]
    lines += [[f"`{kind}`", *(cell(kind, name) for name in SOLVERS)] for kind in KINDS]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def read() -> list[dict[str, str]]:
    """The rows of the file."""
    with FILE.open(newline="") as file:
        return list(csv.DictReader(file))


def main() -> None:
    """Measures, replaces the rows of these solvers, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--solvers", nargs="+", choices=SOLVERS, default=[name for name in SOLVERS if name != "before"])
    parser.add_argument("--without", nargs="+", choices=KINDS, default=[])
    args = parser.parse_args()
    kept = [row for row in read() if row["solver"] not in args.solvers] if FILE.exists() else []
    new = [measure(kind, solver) for solver in args.solvers for kind in KINDS if kind not in args.without]
    rows = kept + [{k: str(v) for k, v in row.items()} for row in new]
    rows.sort(key=lambda row: (KINDS.index(row["kind"]), list(SOLVERS).index(row["solver"])))
    with FILE.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    print(table(rows))


if __name__ == "__main__":
    main()
