"""One solver, in a process of its own that answers questions: to "check" a case, then to "time" it again and again."""

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from multiprocessing.connection import Connection
from statistics import median
from typing import Any

import torch

from . import clock, gradient
from .cases import CASES, SIZES
from .certificate import certify
from .rows import wrong_arrays
from .solvers import adapter
from .solvers.base import LADDER, Adapter, Task

LONG = 2.0  # seconds of a solve, past which no higher accuracy is tried
ROUND = 0.02  # seconds, for as many solves as fit: one alone, after a rest, meets cold caches
Answers = dict[str, Any]


class Bench:
    """The solver, and the case that it is at."""

    def __init__(self, name: str, device: str):
        self.kind, self.device = adapter(name), device
        self.solver: Adapter | None = None

    def check(self, case: str, size: str, reference: Answers) -> Answers:
        """What its answers are worth, at the least accuracy that is enough; or why it is not asked."""
        self.solver = None
        qp = CASES[case].problems(SIZES[size])
        wanted = CASES[case].wanted(qp) if self.kind.differentiable else ()
        task = Task(qp.map(lambda t: t.to(self.device)), wanted, LADDER[0], CASES[case].feasible)
        if objection := self.kind.objection(task):
            return {"failure": objection}
        limit = SIZES[size].seconds * CASES[case].longer
        return self._whole(task, self._least_accuracy(task, SIZES[size].head, reference), limit)

    def _least_accuracy(self, task: Task, count: int, reference: Answers) -> Answers:
        """The first accuracy at which the head of the batch is right, else the best; and its first time."""
        task = replace(task, qp=task.qp.head(count))
        grad_x = gradient.cotangent(task.qp)
        grad_x *= torch.tensor(reference["regular"]).unsqueeze(-1).to(grad_x)
        tried: list[Answers] = []
        for accuracy in LADDER:
            solver = self.kind(replace(task, accuracy=accuracy))
            first, second = (sum(self._solve(solver, grad_x).values()) for _ in range(2))
            gradients = {name: solver.gradient(name) for name in task.gradients}
            slopes = {name: gradient.along_directions(task.qp, name, found) for name, found in gradients.items()}
            errors = gradient.relative_errors(slopes, reference["derivatives"])
            solved, wrong = certify(task.qp, solver.answer()).solved, wrong_arrays(errors, task.qp.g.dtype)
            known = {"accuracy": accuracy, "batch": task.qp.batch, "gradient_errors": errors}
            tried.append(known | {"seconds": second, "first_s": first, "worth": (solved, -len(wrong))})
            if (solved == 1 and not wrong) or second > LONG:
                break
        return max(tried, key=lambda found: found["worth"]) | {"first_s": tried[0]["first_s"]}

    def _whole(self, task: Task, found: Answers, limit: float) -> Answers:
        """The answers to as much of the batch as is solved in time, from that of the head on."""
        batch, seconds = found["batch"], found["seconds"]
        while batch < task.qp.batch and 2 * seconds <= limit:
            batch = min(task.qp.batch, batch << max(1, int(limit / seconds).bit_length() - 1))
            self.solver = self.kind(replace(task, qp=task.qp.head(batch), accuracy=found["accuracy"]))
            self._solve(self.solver)
            seconds = sum(self._solve(self.solver).values())
        part = replace(task, qp=task.qp.head(batch))
        for accuracy in (a for a in LADDER if a <= found["accuracy"]):
            self.solver = solver = self.kind(replace(part, accuracy=accuracy))
            self._solve(solver)
            memory = clock.peak_megabytes(lambda solver=solver: self._solve(solver), self.device)
            certificate = certify(part.qp, solver.answer())
            if certificate.solved == 1 or seconds > LONG:
                break
        answer = solver.answer()
        row = {"first_s": found["first_s"], "version": solver.version(), "batch": batch, "accuracy": accuracy}
        row |= {"memory_mb": memory, "iterations": answer.iterations, "solved": certificate.solved}
        stored = abs(answer.z[:, : solver.qp.n_eq + solver.qp.n_in]) > certificate.tolerance
        known = {"active": float(stored.sum(-1).mean()), "gradient_errors": found["gradient_errors"]}
        return known | {"row": row | certificate.worst()}

    def time(self) -> Answers:
        """Seconds of a forward, of the backward after one, and of both: the median of what fits into a round."""
        found = [self._solve(self.solver)]
        while sum(sum(seconds.values()) for seconds in found) < ROUND:
            found.append(self._solve(self.solver))
        return {phase: median(seconds[phase] for seconds in found) for phase in found[0]}

    def _solve(self, solver: Adapter, grad_x: torch.Tensor | None = None) -> dict[str, float]:
        """A forward alone, then, where gradients are asked for, one with its backward."""

        def timed(work: Callable[[], object]) -> float:
            return clock.seconds(work, self.device, solver.on_stream)

        solver.clear()
        forward = timed(lambda: solver.forward(differentiable=False))
        times = {"forward": forward if solver.seconds is None else solver.seconds}
        if solver.task.gradients:
            grad_x = gradient.cotangent(solver.qp) if grad_x is None else grad_x
            forward = timed(lambda: solver.forward(differentiable=True))
            times["backward"] = timed(lambda: solver.backward(grad_x))
            times["both"] = forward + times["backward"]
        return times


def serve(name: str, device: str, pipe: Connection) -> None:
    """Answers until the other end is closed; what a solver prints goes nowhere."""
    for stream in (1, 2):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
    torch.set_num_threads(os.cpu_count() or 1)
    bench = Bench(name, device)
    with suppress(EOFError):
        while True:
            do, question = pipe.recv()
            try:
                answer = getattr(bench, do)(**question)
            except ImportError as error:
                answer = {"failure": f"not installed: {error.name}"}
            except Exception as error:  # whatever a peer raises is a row of the results
                answer = {"failure": " ".join(f"{type(error).__name__}: {error}".split())[:200]}
            pipe.send(answer)
