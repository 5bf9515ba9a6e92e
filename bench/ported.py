"""Scripts of other libraries with this one: what changed, whether the answers are the same and right, and the time.

    python -m bench.ported                    # all, a process for each, into results/ported.csv, and the table
    python -m bench.ported barriernet theirs  # one script with the library that it was written for

The scripts are those of examples/ported. A time is the least of ROUNDS trainings, one thread, the peer after this
library; a first step, which compiles, does not count. "first" and "worst" are by how much the losses
of the first step and of any differ, next to the largest; "error" is that of the last answers by the script's own check,
which knows neither library.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .table import markdown, read, write

ROOT = Path(__file__).parents[1]
FILE = ROOT / "bench" / "results" / "ported.csv"
ROUNDS, LIMIT = 5, 4.0  # trainings at most, and seconds in which another is begun
sys.path.insert(0, str(ROOT / "examples"))


class Script(NamedTuple):
    """One script in one of its modes, and the library that it was written for."""

    module: str
    options: dict[str, Any]
    title: str
    changed: str
    package: str
    name: str  # of what the script calls
    theirs: Callable[[], Any]  # what it called


def qpth() -> Any:
    """The function of qpth."""
    return import_module("qpth.qp").QPFunction


def qplayer() -> Any:
    """The function of proxsuite."""
    return import_module("proxsuite.torch.qplayer").QPFunction


def cvxpylayers() -> Any:
    """The layer of cvxpylayers with the solver that it takes by default."""
    return import_module("cvxpylayers.torch").CvxpyLayer


def mpc_pytorch() -> Any:
    """The controller of mpc.pytorch, as its example calls it."""
    mpc = import_module("mpc.mpc")

    def plan(C: Tensor, c: Tensor, F: Tensor, x_init: Tensor, limit: Tensor) -> tuple[Tensor, Tensor]:
        (T, B, size), n = c.shape, x_init.shape[-1]
        lower, upper = (-limit, limit) if limit.isfinite().all() else (None, None)
        controller = mpc.MPC(n, size - n, T, lower, upper, lqr_iter=20, n_batch=B, verbose=-1, exit_unconverged=False)
        x, u, _ = controller(x_init, mpc.QuadCost(C, c), mpc.LinDx(F))
        return x, u

    return plan


IMPORT, CALL = "1, the import", "the call, for a function of 13 lines"
SCRIPTS = {
    "barriernet": Script(
        "barriernet", {}, "BarrierNet's filter of a robot, 100 steps of 128 QPs", IMPORT, "qpth", "QPFunction", qpth
    ),
    "sudoku": Script(
        "sudoku", {"feasible": True, "batch": 20}, "QPLayer's Sudoku, feasible mode, 3 steps of 20 LPs",
        IMPORT, "proxsuite", "QPFunction", qplayer,
    ),
    "sudoku-learn": Script(
        "sudoku", {"feasible": False, "batch": 10}, "the same, infeasible mode, 3 steps of 10 LPs",
        IMPORT, "proxsuite", "QPFunction", qplayer,
    ),
    "control": Script(
        "predictive_control", {}, "cvxpylayers' constrained MPC, 40 states one by one",
        IMPORT, "cvxpylayers", "CvxpyLayer", cvxpylayers,
    ),
    "lq": Script(
        "linear_quadratic", {"limited": False}, "mpc.pytorch's time-varying LQ, 20 steps of 32 plans",
        CALL, "mpc", "plan", mpc_pytorch,
    ),
    "lq-limited": Script(
        "linear_quadratic", {"limited": True}, "the same with limits", CALL, "mpc", "plan", mpc_pytorch
    ),
}  # fmt: skip


def measure(name: str, library: str) -> dict[str, Any]:
    """Seconds of a training, its losses and the error of its last answers, here."""
    torch.set_num_threads(1)
    script = SCRIPTS[name]
    module = import_module(f"ported.{script.module}")
    if library == "theirs":
        setattr(module, script.name, script.theirs())
    module.train(**script.options | {"steps": 1})  # compiles
    seconds: list[float] = []
    while len(seconds) < ROUNDS and sum(seconds) < LIMIT:
        start = time.perf_counter()
        losses, last = module.train(**script.options)
        seconds.append(time.perf_counter() - start)
    return {"seconds": min(seconds), "losses": losses, "error": module.error(*last)}


def compare(name: str) -> dict[str, Any]:
    """Measures a script with both libraries, in a process each: a row of the table."""
    script = SCRIPTS[name]
    found = {}
    for library in ("ours", "theirs"):
        command = [sys.executable, "-m", "bench.ported", name, library]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        found[library] = json.loads(done.stdout.splitlines()[-1])
    ours, theirs = found["ours"], found["theirs"]
    largest = max(map(abs, theirs["losses"]))
    apart = [abs(a - b) / largest for a, b in zip(ours["losses"], theirs["losses"], strict=True)]
    peer = f"{script.package} {version(script.package)}"
    row = {"script": name, "peer": peer, "first": apart[0], "worst": max(apart), "load": os.getloadavg()[0]}
    row |= {f"{k}_{library}": found[library][k] for k in ("error", "seconds") for library in found}
    return row


def table(rows: list[dict[str, str]]) -> str:
    """The table of docs/migrating.md, in Markdown."""
    head = [
        "script",
        "lines changed",
        "first loss differs by",
        "any",
        "error here",
        "there",
        "ms here",
        "there",
        "peer",
    ]
    lines = []
    for row in rows:
        script = SCRIPTS[row["script"]]
        times = [f"{1e3 * float(row[f'seconds_{library}']):.0f}" for library in ("ours", "theirs")]
        errors = [f"{float(row[f'error_{library}']):.0e}" for library in ("ours", "theirs")]
        apart = [f"{float(row[name]):.0e}" for name in ("first", "worst")]
        lines.append([script.title, script.changed, *apart, *errors, *times, row["peer"]])
    return markdown(head, lines)


def main() -> None:
    """Measures one, or all of them into the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("script", nargs="?", choices=SCRIPTS)
    parser.add_argument("library", nargs="?", choices=["ours", "theirs"], default="ours")
    args = parser.parse_args()
    if args.script:
        print(json.dumps(measure(args.script, args.library)))
        return
    rows = [compare(name) for name in SCRIPTS]
    write(FILE, rows[0], rows)
    print(table(read(FILE)))


if __name__ == "__main__":
    main()
