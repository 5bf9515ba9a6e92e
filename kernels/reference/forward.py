"""The forward solve: phases AS_POSED, SHIFT and SHIFTED of all problems in one loop of Newton steps."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..interface import MIXED_STEPS, Answer, Options, Rows, Start, Status
from .multipliers import signed_multipliers
from .newton import newton_step
from .outer import Measure, measure, outer_step, verdict
from .products import Batched, Matrices
from .residuals import residuals, shifted_sides
from .scaling import Scaling, measure_scaling
from .state import RUNNING, SHIFT, State, begin

COMPACT_SHARE = 0.1  # of the batch: when so many have ended, copying the others is cheaper than stepping all


def forward(rows: Rows, options: Options, start: Start | None = None) -> Answer:
    """Solves each problem, or the closest feasible one; what mixed precision cannot solve is solved in double."""
    if not options.mixed:
        return _forward(rows, options, start)
    first = min(options.max_iter, MIXED_STEPS)
    answer = _forward(rows, replace(options, max_iter=first), start)
    unsolved = (answer.status == Status.MAX_ITERATIONS) | (answer.status == Status.NUMERICAL_ERROR)
    index = unsolved.nonzero().squeeze(-1)
    if len(index) and options.max_iter > first:
        again = _forward(rows.take(index), replace(options, mixed=False, max_iter=options.max_iter - first))
        again.iterations.add_(answer.iterations[index])
        for whole, part in zip(vars(answer).values(), vars(again).values(), strict=True):
            whole[index] = part
    return answer


def _forward(rows: Rows, options: Options, start: Start | None = None) -> Answer:
    answer = blank_answer(rows)
    keep = usable(rows).nonzero().squeeze(-1)
    if not len(keep):
        return answer
    matrices = Matrices.of(rows, options.mixed)
    scaling = measure_scaling(matrices, rows.g, options.equilibrate)
    lo, hi = rows.lo.expand(rows.batch, -1), rows.hi.expand(rows.batch, -1)
    st = begin(rows.g, lo, hi, rows.w, rows.hard, matrices, scaling, options, start)
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
        at = measure(st, matrices, options)
        st.status = verdict(st, at, options)
        best = Best.of(st, at) if best is None else best.better(st, at)
        _write(answer, st, at, best)
        st.open = st.status == RUNNING
        running = st.open.nonzero().squeeze(-1)
        if not len(running):
            return
        if len(running) <= (1 - COMPACT_SHARE) * len(st.index):
            st, at, best = st.take(running), at.take(running), best.take(running)
            matrices, scaling = matrices.take(running), scaling.take(running)
        outer_step(st, at, scaling, options)
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
        keep = (now.worst >= self.worst) | (st.phase == SHIFT)
        pairs = zip(vars(self).values(), vars(now).values(), strict=True)
        return Best(*(torch.where(keep.unsqueeze(-1) if a.dim() == 2 else keep, a, b) for a, b in pairs))


def usable(rows: Rows) -> Tensor:
    """[B] whether all numbers are finite, bounds that are absent (lo = -inf, hi = inf) aside."""
    finite = torch.ones(rows.batch, dtype=torch.bool, device=rows.g.device)
    for t in (rows.H, rows.g, rows.A, rows.C):
        if t is not None:
            finite &= t.flatten(1).sum(-1).isfinite()
    absent_lo, absent_hi = rows.lo == -torch.inf, rows.hi == torch.inf
    return finite & (rows.lo.isfinite() | absent_lo).all(-1) & (rows.hi.isfinite() | absent_hi).all(-1)


def blank_answer(rows: Rows) -> Answer:
    """The answer of problems whose numbers are not finite: nothing is known."""
    unknown = rows.g.new_full((rows.batch, max(rows.n, rows.m)), torch.nan)
    count = torch.zeros(rows.batch, dtype=torch.long, device=rows.g.device)
    x, z, s = (unknown[:, :k].clone() for k in (rows.n, rows.m, rows.m))
    residuals = (unknown[:, 0].clone() for _ in range(3))
    return Answer(x, z, s, count + int(Status.NONFINITE_INPUT), count, *residuals)


def _write(answer: Answer, st: State, at: Measure, best: Best) -> None:
    """Writes the answers of the problems that have just ended; one that stopped early is given its best iterate."""
    ended = (st.open & (st.status != RUNNING)).nonzero().squeeze(-1)
    if not len(ended):
        return
    index = st.index[ended]
    answer.status[index], answer.iterations[index] = st.status[ended], st.steps[ended]
    stopped = (st.status == int(Status.MAX_ITERATIONS)) | (st.status == int(Status.NUMERICAL_ERROR))
    for name in ("x", "z", "s", "primal", "dual", "gap"):
        last = getattr(at if name in ("primal", "dual", "gap") else st, name)
        early = stopped.unsqueeze(-1) if last.dim() == 2 else stopped
        getattr(answer, name)[index] = torch.where(early, getattr(best, name), last)[ended]


def settle_multipliers(answer: Answer, rows: Rows, matrices: Matrices, scaling: Scaling, options: Options) -> None:
    """Gives the shifted problems their unique multipliers, where these leave the residuals within the tolerances.

    Elsewhere they keep those that the solve found, whose signs on shifted rows may be those of equalities.
    """
    index = (answer.status == int(Status.SOLVED_CLOSEST_FEASIBLE)).nonzero().squeeze(-1)
    if not len(index):
        return
    rows, matrices, scaling = rows.take(index), matrices.take(index), scaling.take(index)
    x, s = answer.x[index], answer.s[index]
    z, found = signed_multipliers(rows, matrices, scaling, x, answer.z[index], s, options)
    products = matrices.hessian(x), matrices.rows(x), matrices.columns(z)
    at = residuals(x, z, *products, rows.g, *shifted_sides(rows.lo, rows.hi, s), options)
    found &= at.hold()
    index = index[found]
    answer.z[index], answer.dual[index], answer.gap[index] = z[found], at.dual[found], at.gap[found]
