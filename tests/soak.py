"""Solves many random problems of all families and reports every status that is not right.

python tests/soak.py                      # 100,000 problems
python tests/soak.py --count 20000 --precision mixed
python tests/soak.py --method admm        # to 1e-4; with "auto" the augmented Lagrangian begins where ADMM leads to
python tests/soak.py --write              # the rows of docs/evidence.md, with another method of docs/choosing.md
"""

from __future__ import annotations

import argparse
import csv
import time
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import families as f
import hard as h
import reported as r
import torch
from helpers import admm_paying

import qplayer_gpu as qp

BATCH = 100
SOLVED, CLOSEST, UNBOUNDED = qp.Status.SOLVED, qp.Status.SOLVED_CLOSEST_FEASIBLE, qp.Status.UNBOUNDED
INDEFINITE = qp.Status.NUMERICAL_ERROR
UNSOLVED = (qp.Status.MAX_ITERATIONS, qp.Status.NUMERICAL_ERROR)
# family: arguments of (batch, n, seed), and the right status, or both where the tolerances decide between them
FAMILIES = {
    "feasible": (lambda B, n, s: f.feasible(B, n, s, two_sided=s % 2 == 0, bounds=s % 3 == 0), SOLVED),
    "lp": (lambda B, n, s: f.lp(B, n + 1, s), SOLVED),
    "ill-scaled": (lambda B, n, s: h.ill_scaled(B, n, s, decades=s % 9), SOLVED),
    "degenerate": (lambda B, n, s: h.degenerate(B, n, s), SOLVED),
    "netlib-like": (lambda B, n, s: h.netlib_like(B, n + 3, s), SOLVED),
    "little-H": (lambda B, n, s: h.netlib_like(B, n + 3, s, little=0.1), SOLVED),
    "overdetermined": (lambda B, n, s: f.overdetermined(B, n, s), CLOSEST),
    "excluding": (lambda B, n, s: f.excluding_halfspaces(B, n, seed=s), CLOSEST),
    "opposite": (lambda B, n, s: f.opposite_halfspaces(B, n, 1 + s % 7, s), CLOSEST),
    "positive-lp": (lambda B, n, s: f.positive_equalities(B, n + 2, 2 + s % 3, s), CLOSEST),
    "positive-qp": (lambda B, n, s: f.positive_equalities(B, n + 2, 2 + s % 3, s, H=True), CLOSEST),
    "rescaled-over": (lambda B, n, s: h.rescaled(f.overdetermined(B, n, s), s), CLOSEST),
    "rescaled-excl": (lambda B, n, s: h.rescaled(f.excluding_halfspaces(B, n, seed=s), s), CLOSEST),
    "rescaled-opp": (lambda B, n, s: h.rescaled(f.opposite_halfspaces(B, n, 1 + s % 7, s), s), CLOSEST),
    "unbounded": (lambda B, n, s: h.unbounded(B, n, s), UNBOUNDED),
    "large-cost": (r.large_cost, SOLVED),
    "flat": (r.flat, SOLVED),
    "missed-equal": (r.missed_equalities, (SOLVED, CLOSEST)),
    "missed-halves": (r.missed_halfspaces, (SOLVED, CLOSEST)),
    "missed-lp": (lambda B, n, s: r.missed_halfspaces(B, n, s, lp=True), (SOLVED, CLOSEST)),
    "missed-bounds": (r.missed_bounds, (SOLVED, CLOSEST)),
    "transport": (r.transport, (SOLVED, CLOSEST)),
    "repeated": (r.repeated, (SOLVED, CLOSEST)),
    "large-data": (r.large_data, SOLVED),
    "heavy": (r.heavy, SOLVED),
    "parallel": (r.parallel, SOLVED),
    "penalized": (r.penalized, SOLVED),
    "weighted": (r.weighted, CLOSEST),
    "short-rows": (r.short_rows, SOLVED),
    "half-rank": (r.half_rank, CLOSEST),
    "gram": (r.gram, SOLVED),
    "gram-wide": (lambda B, n, s: r.gram(B, n, s, box=1e3), SOLVED),
    "indefinite": (r.indefinite, (INDEFINITE, UNBOUNDED)),
    "at-rest": (r.at_rest, SOLVED),
    "simplex": (r.simplex, SOLVED),
    "simplex-far": (lambda B, n, s: r.simplex(B, n, s, scale=1e4), SOLVED),
    "nonnegative": (r.nonnegative, SOLVED),
    "svm": (r.support_vectors, SOLVED),
    "lasso": (r.lasso, SOLVED),
    "isotonic": (r.isotonic, SOLVED),
    "minimax": (r.minimax, SOLVED),
    "control": (r.control, SOLVED),
    "quantile": (r.quantile, SOLVED),
}


RESULTS = Path(__file__).parents[1] / "bench" / "results"
ROWS = {"alm": RESULTS / "soak.csv", "admm": RESULTS / "soak_admm.csv", "auto": RESULTS / "soak_auto.csv"}
SETTINGS = {
    "alm": qp.Settings(),
    "admm": qp.Settings(method="admm", eps_abs=1e-4, max_iter=4000),
    "auto": qp.Settings(method="auto"),
}
TITLES = ("family", "problems", "wrong", "unsolved", "steps", "most", "primal", "dual", "gap", "shift")


def main() -> None:
    """One line for each family, and one for each problem whose status is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=100_000, help="problems, over all families")
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--precision", choices=["float64", "mixed"], default="float64")
    parser.add_argument("--method", choices=list(SETTINGS), default="alm")
    parser.add_argument("--write", action="store_true", help="also into bench/results, for the pages")
    args = parser.parse_args()
    settings = replace(SETTINGS[args.method], precision=args.precision)
    batches = -(-args.count // (BATCH * len(FAMILIES)))
    start, rows = time.perf_counter(), []
    print("".join(f"{title:>{15 if title == 'family' else 9}}" for title in TITLES))
    for family in FAMILIES:
        with admm_paying() if args.method == "auto" else nullcontext():
            row, failures = soak(family, batches, settings, args.backend)
        print(f"{row[0]:>15}" + "".join(f"{value:>9}" for value in row[1:]))
        for problem, status in failures.items():
            print(f"    {problem}: {status}")
        rows.append(row)
    _, problems, wrong, unsolved = ([row[i] for row in rows] for i in range(4))
    how = f"{time.perf_counter() - start:.0f} s, {args.method}, {args.precision}, {args.backend}"
    print(f"{sum(problems)} problems, {sum(wrong)} with a wrong status, {sum(unsolved)} unsolved, {how}")
    if args.write:
        with ROWS[args.method].open("w", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows([TITLES, *rows])


def soak(family: str, batches: int, settings: qp.Settings, backend: str) -> tuple[list, dict[str, str]]:
    """Solves the batches of a family, of n = 1 to 24; a value for each title, and the problems with a wrong status."""
    make, expected = FAMILIES[family]
    expected = torch.tensor(expected).reshape(-1)
    failures, steps, most, worst = {}, 0, 0, torch.zeros(4, dtype=torch.float64)
    for seed in range(batches):
        problems = make(BATCH, 1 + 7 * seed % 24, seed)
        sol = qp.solve_qp(**problems, settings=settings, backend=backend)
        right = torch.isin(sol.status, expected)
        for i in (~right).nonzero().flatten().tolist():
            failures[f"seed {seed}, problem {i}"] = qp.Status(int(sol.status[i])).name
        right &= sol.status <= CLOSEST
        found = qp.certificate(sol, **problems)
        residuals = torch.stack([found.primal_residual, found.dual_residual, found.gap, found.shift_residual])
        H = 0.0 if problems["H"] is None else 0.5 * f.times(problems["H"], sol.x)
        objective = (sol.x * (H + problems["g"])).sum(-1).abs()
        residuals[2] /= 1 + objective
        worst = torch.maximum(worst, residuals[:, right].amax(-1)) if right.any() else worst
        steps, most = steps + int(sol.info.iterations.sum()), max(most, int(sol.info.iterations.max()))
    unsolved = sum(qp.Status[name] in UNSOLVED for name in failures.values())
    counts = [batches * BATCH, len(failures) - unsolved, unsolved, f"{steps / batches / BATCH:.1f}", most]
    return [family, *counts, *(f"{value:.1e}" for value in worst.tolist())], failures


if __name__ == "__main__":
    main()
