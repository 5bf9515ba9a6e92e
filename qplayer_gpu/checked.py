"""Kernels for a GPU that check themselves at the first launch of each variant, before "auto" relies on them.

What a variant answers is measured against the data by torch, for all problems of that batch, and on a sample of
problems of these sizes it is compared with the reference. What passes is remembered, and what is wrong is never used
again on that device; what cannot be compiled or launched is not used again in this process. ``QPLAYER_GPU_CHECK=0`` in
the environment switches this off.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar, cast

import torch
from torch import Tensor

from .certificate import conditions
from .errors import BackendError
from .kernels import reference
from .kernels.cache import found, replaced
from .kernels.interface import Adjoint, Answer, Kernels, Options, Rows, Status, Vectors
from .settings import Settings

SAMPLE = 4  # problems
TOLERANCE = 1e-6  # of a vector, next to its length
SLACK = 10.0  # that a residual may be larger than was said, or than the reference's: it is summed in another order
ROUNDING = 1e-11  # of the size of the terms of a residual
DOUBTED = 64  # problems at most that the reference solves too, as their residuals are large
REPORT = ". Please report this, with the output of `python -m qplayer_gpu.trial`"
WRONG = "backend {!r} gave a wrong answer at its first use on {}, and 'auto' takes others from now on: {}" + REPORT
UNABLE = "backend {!r} cannot run on {}, and 'auto' takes others in this process: {}"
BROKEN = (
    "backend {!r} has broken the CUDA context of this process at its first use on {}, and 'auto' takes others in those "
    "to come: {}" + REPORT
)

Result = TypeVar("Result", Answer, Adjoint)


class Compiled(Kernels, Protocol):
    """Kernels that are compiled for each of several variants."""

    def variant(self, rows: Rows, mixed: bool) -> tuple[object, ...]:
        """What they are compiled for."""
        ...


class Verdicts:
    """What was found of the variants on one device, kept in a file whose name begins like this."""

    def __init__(self, stem: str) -> None:
        self.stem = stem
        self.right: set[str] = set()
        self.wrong: dict[str, str] = {}  # backends, and why
        self.unable: dict[str, str] = {}  # the same, of those that do not run in this process; not kept
        self.learn()

    def learn(self) -> None:
        """Takes in what the file says."""
        path = found(self.stem, ".json")
        known = {} if path is None else json.loads(path.read_text())
        self.right |= set(known.get("right", ()))
        self.wrong |= known.get("wrong", {})

    def keep(self) -> None:
        """Writes the file, with what others have found; where it cannot be written, the next process checks anew."""

        def write(path: Path) -> None:
            self.learn()
            path.write_text(json.dumps({"right": sorted(self.right), "wrong": self.wrong}))

        with suppress(OSError):
            replaced(self.stem, ".json", write)


verdicts = cache(Verdicts)


class Checked:
    """The kernels of a backend on one device, which fall back to the reference where they are found wrong."""

    def __init__(self, name: str, kernels: Kernels, device: torch.device, stem: str) -> None:
        self.name, self.kernels, self.device = name, cast(Compiled, kernels), device
        self.verdicts = verdicts(stem)

    def obstacle(self, rows: Rows, mixed: bool) -> str:
        return self.kernels.obstacle(rows, mixed)

    def forward(self, rows: Rows, options: Options, start: Vectors | None = None) -> Answer:
        options = options._replace(mixed=options.mixed and not self.kernels.obstacle(rows, True))

        def why(answer: Answer) -> str:
            return unmet(rows, options, answer) or self.differs(rows, options)

        return self._checked("forward", rows, options, lambda k: k.forward(rows, options, start), why)

    def adjoint(self, rows: Rows, at: Vectors, grad: Vectors, options: Options) -> Adjoint:
        return self._checked(
            "adjoint", rows, options, lambda k: k.adjoint(rows, at, grad, options), lambda _: self.bends(rows, options)
        )

    def _checked(
        self,
        part: str,
        rows: Rows,
        options: Options,
        call: Callable[[Kernels], Result],
        why: Callable[[Result], str],
    ) -> Result:
        """What the call of the kernels returns, checked where their variant has not been before.

        Raises:
            BackendError: the kernels have broken the CUDA context, in which nothing runs any more.
        """
        variant = f"{self.name} {part} {self.kernels.variant(rows, options.mixed)}"
        if variant in self.verdicts.right or not rows.batch or not may_check(self.device):
            return call(self.kernels)
        wait(self.device)  # what has failed before is not these kernels' fault
        try:
            result = call(self.kernels)
            complaint = why(result)
        except Exception as error:  # of a compiler, of a launch: whatever it is, these kernels do not run here
            if "out of memory" in str(error).lower():  # of torch or of the driver: there may be some the next time
                raise
            self._leave(f"{variant}: {error!r}", error)
            return call(cast(Kernels, reference))
        if complaint:
            self._condemn(f"{variant}: {complaint}")
            warnings.warn(WRONG.format(self.name, self.device, f"{variant}: {complaint}"), stacklevel=2)
            return call(cast(Kernels, reference))
        self.verdicts.right.add(variant)
        self.verdicts.keep()
        return result

    def _leave(self, why: str, error: Exception) -> None:
        """Has this process take other kernels, after an error."""
        try:
            wait(self.device)
        except Exception:
            self._condemn(why)
            raise BackendError(BROKEN.format(self.name, self.device, why)) from error
        self.verdicts.unable[self.name] = why
        warnings.warn(UNABLE.format(self.name, self.device, why), stacklevel=3)

    def _condemn(self, why: str) -> None:
        """Has all processes take other kernels on such a device."""
        self.verdicts.wrong[self.name] = why
        self.verdicts.keep()

    def differs(self, rows: Rows, options: Options) -> str:
        """What of the sample's answers is not the reference's; empty where nothing is."""
        some, usual = sample(rows), usual_options(options)
        ours, theirs = (k.forward(some, usual, None) for k in (self.kernels, reference))
        if ours.status.tolist() != theirs.status.tolist():
            return f"status {ours.status.tolist()}, not {theirs.status.tolist()}"
        pairs = {"s": (ours.s, theirs.s), "objective": (objective(some, ours.x), objective(some, theirs.x))}
        if some.H is not None:
            pairs["x"] = ours.x, theirs.x
        return far_apart(pairs)

    def bends(self, rows: Rows, options: Options) -> str:
        """What of the sample's adjoint vectors is not the reference's; empty where nothing is."""
        some, exact = sample(rows), usual_options(options)._replace(mixed=False)
        at = reference.forward(some, exact, None).point
        grad = Vectors(torch.ones_like(at.x), torch.zeros_like(at.z), torch.ones_like(at.s))
        ours, theirs = (k.adjoint(some, at, grad, exact) for k in (self.kernels, reference))
        pairs = {"b_x": (ours.b_x, theirs.b_x), "p": (ours.p, theirs.p)}
        if some.H is None and not some.bounded:  # the solution of such an LP may be one of many
            pairs = {name: (v, v) for name, (v, _) in pairs.items()}
        return far_apart(pairs)


def may_check(device: torch.device) -> bool:
    """Whether a check is wanted, and may ask the device now."""
    capturing = device.type == "cuda" and torch.cuda.is_current_stream_capturing()
    return os.environ.get("QPLAYER_GPU_CHECK") != "0" and not capturing


def wait(device: torch.device) -> None:
    """Until the current stream has done all; raises where that has failed."""
    if device.type == "cuda":
        torch.cuda.current_stream(device).synchronize()


def usual_options(options: Options) -> Options:
    """To compare answers by: with a loose tolerance or few steps, rounding decides where a solve ends."""
    precision: Literal["float64", "mixed"] = "mixed" if options.mixed else "float64"
    return Settings(precision=precision).options(torch.float64, torch.device("cpu"))


def unmet(rows: Rows, options: Options, answer: Answer) -> str:
    """Which condition an answer leaves, among the problems that are said to be solved; empty where it leaves none.

    Where a residual is larger than was said, it may be the data's: a bent H, or a shift within the tolerance that is
    left out. It is left only if the reference leaves less of it.
    """
    solved = answer.status <= Status.SOLVED_CLOSEST_FEASIBLE
    said, now = torch.stack([answer.primal, answer.dual, answer.gap]), residuals(rows, answer)
    x, z = answer.x.abs().amax(-1), answer.z.abs().sum(-1)
    allowed = SLACK * said.clamp(min=options.eps_abs) + ROUNDING * (1 + x) * (1 + z) * largest_number(rows)
    doubted = (solved & ~(now <= allowed)).any(0).nonzero().squeeze(-1)[:DOUBTED]
    if not doubted.numel():
        return ""
    theirs = residuals(rows.take(doubted), reference.forward(rows.take(doubted), options._replace(mixed=False), None))
    now, allowed = now[:, doubted], allowed[:, doubted]
    left = ~((now <= allowed) | (now <= SLACK * theirs))
    names = ("primal residual", "dual residual", "gap")
    return ", ".join(f"its {names[i]} is {now[i, left[i]].max().item():.1e}" for i in range(3) if left[i].any())


def residuals(rows: Rows, answer: Answer) -> Tensor:
    """The primal and the dual residual and the gap, from the data: [3, B]."""
    measured = conditions(rows, answer.point)
    return torch.stack([measured.primal_residual, measured.dual_residual, measured.gap])


def largest_number(rows: Rows) -> Tensor:
    """Of the matrices and the cost: []."""
    arrays = [t for t in (rows.H, rows.g, rows.A, rows.C) if t is not None and t.numel()]
    return torch.stack([t.abs().max() for t in arrays]).max()


def objective(rows: Rows, x: Tensor) -> Tensor:
    """``1/2 x'Hx + g'x``: [B]."""
    Hx = torch.zeros_like(x) if rows.H is None else (rows.H @ x.unsqueeze(-1)).squeeze(-1)
    return (x * (0.5 * Hx + rows.g)).sum(-1)


def far_apart(pairs: dict[str, tuple[Tensor, Tensor]]) -> str:
    """Which vectors differ too much; empty where none do."""
    errors = {k: (a - b).norm().item() / (1 + b.norm().item()) for k, (a, b) in pairs.items()}
    return ", ".join(f"{name} is wrong by {error:.1e}" for name, error in errors.items() if not error <= TOLERANCE)


def sample(rows: Rows) -> Rows:
    """Problems of the same sizes, in every other one of which rows exclude each other where there are two of a kind."""
    B, n, n_eq, n_in = SAMPLE, rows.n, rows.n_eq, rows.n_in
    generator = torch.Generator().manual_seed(0)
    here: dict[str, Any] = {"dtype": torch.float64, "device": "cpu"}  # whatever the user's default is

    def normal(*shape: int) -> Tensor:
        return torch.randn(B, *shape, generator=generator, **here)

    M, A, C, x = normal(n, n), normal(n_eq, n), normal(n_in, n), 0.5 * torch.tanh(normal(n))
    b, Cx = ((G @ x.unsqueeze(-1)).squeeze(-1) for G in (A, C))
    low, high = Cx - 0.3, Cx + 0.3
    if n_in > 1:
        C[::2, 1] = C[::2, 0]
        high[::2, 1], low[::2, 1] = low[::2, 0] - 0.5, low[::2, 0] - 1.0
    elif n_eq > 1:
        A[::2, 1], b[::2, 1] = A[::2, 0], b[::2, 0] + 0.5
    box = torch.ones(B, n if rows.bounded else 0, **here)
    H = None if rows.H is None else M @ M.mT / n + 0.1 * torch.eye(n, **here)
    costs = A.mT @ normal(n_eq, 1) + C.mT @ normal(n_in, 1)  # no ray goes down them
    g = normal(n) if rows.bounded or H is not None else costs.squeeze(-1)
    lo, hi = torch.cat([b, low, -box], -1), torch.cat([b, high, box], -1)
    g, A, C, lo, hi = (t.to(rows.g.device) for t in (g, A, C, lo, hi))
    return Rows(H if H is None else H.to(rows.g.device), g, A, C, lo, hi, w=None, hard=None, batch=B)
