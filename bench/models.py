"""Models in CVXPY through this library and through cvxpylayers: the time of a forward and a backward.

    python -m bench.models        # a process for each library, into results/models.csv, and the table
    python -m bench.models ours   # one of them, here

The models are those of tests/models.py that cvxpylayers has as examples or tests, the batch whole and its first problem
alone; one thread. A time is the lower quartile of ROUNDS. An answer is "wrong" if x or the gradient of a parameter
(that of a symmetric one made symmetric) is further than TOLERANCE from this library's, which tests/test_cvxpylayer.py
holds against CVXPY and against differences.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from .table import markdown, read, write

ROOT = Path(__file__).parents[1]
FILE = ROOT / "bench" / "results" / "models.csv"
ROUNDS, LIMIT = 21, 2.0  # of one layer, and seconds in which another is begun
TOLERANCE, SMALL = 1e-2, 1e-3  # a gradient may be zero
sys.path.insert(0, str(ROOT / "tests"))


def ours() -> Callable[..., Any]:
    """The class of layers of this library."""
    from qplayer_gpu.compat import CvxpyLayer

    return CvxpyLayer


def cvxpylayers(**asked: Any) -> Callable[..., Any]:
    """The class of layers of cvxpylayers, over the solver that is asked for."""
    from cvxpylayers.torch import CvxpyLayer

    return partial(CvxpyLayer, **asked)


LIBRARIES: dict[str, tuple[str, Callable[[], Callable[..., Any]]]] = {
    "ours": ("here", ours),
    "scs": ("cvxpylayers over diffcp, SCS", partial(cvxpylayers, solver_args={"eps": 1e-8})),
    "clarabel": ("over diffcp, Clarabel", partial(cvxpylayers, solver_args={"solve_method": "CLARABEL"})),
    "moreau": ("over Moreau", partial(cvxpylayers, solver="MOREAU")),
}


def measure(library: str) -> dict[str, Any]:
    """The time, the answers and the gradients of a library for each model and batch, or why there are none."""
    import models

    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    made, found = LIBRARIES[library][1](), {}
    for model in models.EXAMPLES:
        for alone in (False, True):
            torch.manual_seed(0)
            problem, parameters, variables, tensors = (
                model()
            )  # anew: a second layer of one problem over Moreau is wrong
            batched = [t.dim() > p.ndim for t, p in zip(tensors, parameters, strict=True)]
            batch = 1 if alone else len(tensors[batched.index(True)])
            given = [t[0] if alone and b else t for t, b in zip(tensors, batched, strict=True)]
            try:
                answer = timed(made(problem, parameters, variables), parameters, given)
            except Exception as error:  # whatever a peer raises is a row of the results
                answer = {"failure": " ".join(str(error).split())[:60]}
            found[f"{model.__name__} {batch}"] = answer
    return found


def timed(layer: Callable[..., Any], parameters: list, tensors: list[torch.Tensor]) -> dict[str, Any]:
    """The time of a forward and a backward of one layer in milliseconds, with its answers and gradients."""
    leaves = [t.clone().requires_grad_() for t in tensors]
    seconds: list[float] = []
    while len(seconds) < ROUNDS and sum(seconds) < LIMIT:
        for leaf in leaves:
            leaf.grad = None
        start = time.perf_counter()
        x = layer(*leaves)
        sum(part.sum() for part in x).backward()
        seconds.append(time.perf_counter() - start)
    grads = [leaf.grad for leaf in leaves]
    grads = [g + g.mT if p.is_symmetric() and p.ndim == 2 else g for g, p in zip(grads, parameters, strict=True)]
    answers = [t.detach().flatten().tolist() for t in (*x, *grads)]
    return {"ms": 1e3 * sorted(seconds)[len(seconds) // 4], "answers": answers}


def distance(answers: list[list[float]], expected: list[list[float]]) -> float:
    """How far answers and gradients are from the expected ones: the largest distance, next to the size of each."""
    pairs = [(torch.tensor(a), torch.tensor(b)) for a, b in zip(answers, expected, strict=True)]
    return max(((a - b).norm() / b.norm().clamp(min=SMALL)).item() for a, b in pairs)


def table(rows: list[dict[str, str]]) -> str:
    """The table of docs/migrating.md, in Markdown."""
    head = ["model", "batch", *(f"{title}, ms" for title, _ in LIBRARIES.values())]

    def cell(row: dict[str, str], library: str) -> str:
        if not row[library]:
            return row[f"{library}_failure"]
        wrong = library != "ours" and float(row[f"{library}_distance"]) > TOLERANCE
        return f"{float(row[library]):.1f}" + (" (wrong)" if wrong else "")

    return markdown(
        head, [[row["model"], row["batch"], *(cell(row, library) for library in LIBRARIES)] for row in rows]
    )


def main() -> None:
    """Measures one library, or all of them into the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("library", nargs="?", choices=LIBRARIES)
    args = parser.parse_args()
    if args.library:
        print(json.dumps(measure(args.library)))
        return
    found = {}
    for library in LIBRARIES:
        command = [sys.executable, "-m", "bench.models", library]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        found[library] = json.loads(done.stdout.splitlines()[-1])
    rows = []
    for key, own in found["ours"].items():
        model, batch = key.split()
        row: dict[str, Any] = {"model": model, "batch": batch, "load": os.getloadavg()[0], "ours": own["ms"]}
        for library in list(LIBRARIES)[1:]:
            other = found[library][key]
            near = distance(other["answers"], own["answers"]) if "answers" in other else None
            row |= {library: other.get("ms"), f"{library}_distance": near, f"{library}_failure": other.get("failure")}
        rows.append(row)
    write(FILE, rows[0], rows)
    print(table(read(FILE)))


if __name__ == "__main__":
    main()
