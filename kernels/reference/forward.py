"""The forward solve: phases AS_POSED, SHIFT and SHIFTED of all problems in one loop of Newton steps."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .. import numbers
from ..interface import Answer, Options, Rows, Vectors
from ..numbers import RUNNING, Phase, Status
from .multipliers import settle_multipliers
from .newton import newton_step
from .outer import Measure, measure, outer_step, verdict
from .products import Batched, Matrices
from .scaling import Scaling, measure_scaling
from .state import State, begin


def forward(rows: Rows, options: Options, start: Vectors | None = None) -> Answer:
    """Solves each problem, or the closest feasible one; what mixed precision cannot solve is solved in double."""
    if not options.mixed:
        return _forward(rows, options, start)
    first = min(options.max_iter, numbers.MIXED_STEPS)
    answer = _forward(rows, options._replace(max_iter=first), start)
    unsolved = (answer.status == Status.MAX_ITERATIONS) | (answer.status == Status.NUMERICAL_ERROR)
    index = unsolved.nonzero().squeeze(-1)
    if len(index) and options.max_iter > first:
        again = _forward(rows.take(index), options._replace(mixed=False, max_iter=options.max_iter - first))
        again.iterations.add_(answer.iterations[index])
        for whole, part in zip(answer, again, strict=True):
            whole[index] = part
    return answer


def _forward(rows: Rows, options: Options, start: Vectors | None = None) -> Answer:
    answer = blank_answer(rows)
    keep = usable(rows).nonzero().squeeze(-1)
    if not len(keep):
        return answer
    matrices = Matrices.of(rows, options.mixed)
    scaling = measure_scaling(matrices, rows.g, rows.lo, rows.hi, options.equilibrate)
    lo, hi = rows.lo.expand(rows.batch, -1), rows.hi.expand(rows.batch, -1)
    st = begin(rows.g, lo, hi, *rows.weights(), matrices, scaling, options, start)
    if len(keep) < rows.batch:
        st = st.take(keep)
        _solve(answer, st, matrices.take(keep), scaling.take(keep), options)
    else:
        _solve(answer, st, matrices, scaling, options)
    settle_multipliers(answer, rows, matrices, scaling, options)
    return answer


def _solve(answer: Answer, st: State, matrices: Matrices, scaling: Scaling, options: Options) -> None:
    """Steps all problems until each has ended; those that have ended soon leave the batch."""
    best = None
    while True:
        at = measure(st, matrices, scaling, options)
        st.status = verdict(st, at, options)
        best = Best.of(st, at) if best is None else best.better(st, at)
        outer_step(st, at, scaling, options)
        _write(answer, st, at, best)
        st.open = st.status == RUNNING
        running = st.open.nonzero().squeeze(-1)
        if not len(running):
            return
        if len(running) <= (1 - numbers.COMPACT_SHARE) * len(st.index):
            st, at, best = st.take(running), at.take(running), best.take(running)
            matrices, scaling = matrices.take(running), scaling.take(running)
        newton_step(st, matrices, scaling)


@dataclass
class Best(Batched):
    """The best iterate so far of each problem, for one that stops early; phase SHIFT does not count."""

    x: Tensor  # [B, n]
    z: Tensor  # [B, m]
    s: Tensor  # [B, m]
    primal: Tensor  # [B] and the rest: its residuals
    dual: Tensor  # [B]
    gap: Tensor  # [B]
    worst: Tensor  # [B] the largest residual next to its tolerance

    @classmethod
    def of(cls, st: State, at: Measure) -> Best:
        """The present iterate."""
        return cls(st.x, st.z, st.s, at.primal, at.dual, at.gap, at.worst())

    def better(self, st: State, at: Measure) -> Best:
        """The better of this one and the present iterate."""
        now = Best.of(st, at)
        keep = (now.worst >= self.worst) | (st.phase == Phase.SHIFT)
        pairs = zip(vars(self).values(), vars(now).values(), strict=True)
        return Best(*(torch.where(keep.unsqueeze(-1) if a.dim() == 2 else keep, a, b) for a, b in pairs))


def usable(rows: Rows) -> Tensor:
    """[B] whether all numbers are finite, sides that are absent (lo = -inf, hi = inf) aside, and weights positive."""
    finite = torch.ones(rows.batch, dtype=torch.bool, device=rows.g.device)
    for t in (rows.H, rows.g, rows.A, rows.C):
        if t is not None:
            finite &= t.flatten(1).sum(-1).isfinite()
    absent_lo, absent_hi = rows.lo == -torch.inf, rows.hi == torch.inf
    if rows.w is not None:
        finite &= (rows.w.isfinite() & (rows.w > 0)).all(-1)
    return finite & (rows.lo.isfinite() | absent_lo).all(-1) & (rows.hi.isfinite() | absent_hi).all(-1)


def blank_answer(rows: Rows) -> Answer:
    """The answer of problems whose numbers are not finite: nothing is known."""
    unknown = rows.g.new_full((rows.batch, max(rows.n, rows.m)), torch.nan)
    count = torch.zeros(rows.batch, dtype=torch.long, device=rows.g.device)
    x, z, s = (unknown[:, :k].clone() for k in (rows.n, rows.m, rows.m))
    residuals = (unknown[:, 0].clone() for _ in range(3))
    return Answer(x, z, s, count + Status.NONFINITE_INPUT, count, *residuals)


def _write(answer: Answer, st: State, at: Measure, best: Best) -> None:
    """Writes the answers of the problems that have just ended; one that stopped early is given its best iterate."""
    ended = (st.open & (st.status != RUNNING)).nonzero().squeeze(-1)
    if not len(ended):
        return
    index = st.index[ended]
    answer.status[index], answer.iterations[index] = st.status[ended], st.steps[ended]
    stopped = (st.status == Status.MAX_ITERATIONS) | (st.status == Status.NUMERICAL_ERROR)
    for name in ("x", "z", "s", "primal", "dual", "gap"):
        last = getattr(at if name in ("primal", "dual", "gap") else st, name)
        early = stopped.unsqueeze(-1) if last.dim() == 2 else stopped
        getattr(answer, name)[index] = torch.where(early, getattr(best, name), last)[ended]
