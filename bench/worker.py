"""One solver on one case, in a process of its own that answers "check" and "time", a line of JSON for each.

    python -m bench.worker SOLVER CASE DIVISOR THREADS

"reference" as the solver has central differences for an answer to "check".
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from time import perf_counter
from typing import Any

import torch

from . import gradient
from .cases import CASES
from .certificate import certify
from .solvers import adapter
from .solvers.base import Adapter


def check(solver: Adapter, grad_x: torch.Tensor) -> dict[str, Any]:
    """What a solve is worth: its residuals, and the derivatives that its gradients stand for."""
    run(solver, grad_x)
    answer = solver.answer()
    certificate = certify(solver.qp, answer)
    return {
        "version": solver.version(),
        "solved": certificate.solved,
        **certificate.worst(),
        "iterations": answer.iterations,
        "derivatives": {name: gradient.along_directions(solver.gradient(name)) for name in solver.gradients},
    }


def run(solver: Adapter, grad_x: torch.Tensor) -> float:
    """Seconds of a forward, and of a backward where gradients are asked for."""
    start = perf_counter()
    solver.forward()
    if solver.gradients:
        solver.backward(grad_x)
    return perf_counter() - start


def commands(name: str, case_name: str, divisor: int, threads: int) -> dict[str, Callable[[], dict[str, Any]]]:
    """What the process answers to; every solve starts from a new adapter."""
    case = CASES[case_name]
    qp = case.problems(divisor)
    if name == "reference":
        return {"check": lambda: {"derivatives": gradient.central_differences(qp, case.gradients, threads)}}
    grad_x = gradient.cotangent(qp)

    def new() -> Adapter:
        return adapter(name)(qp, case.gradients, threads)

    return {"check": lambda: check(new(), grad_x), "time": lambda: {"seconds": run(new(), grad_x)}}


def reply(do: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The answer, or why there is none."""
    try:
        return do()
    except ImportError as error:
        return {"failure": f"not installed: {error.name}"}
    except Exception as error:  # whatever a peer raises is a row of the results
        return {"failure": f"{type(error).__name__}: {error}"}


def main() -> None:
    """Answers until standard input ends; what a solver prints goes to standard error."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    name, case, divisor, threads = sys.argv[1:]
    torch.set_num_threads(int(threads))
    known = commands(name, case, int(divisor), int(threads))
    for line in sys.stdin:
        print(json.dumps(reply(known[line.strip()])), file=answers, flush=True)


if __name__ == "__main__":
    main()
