"""The forward solve by ADMM, for modest tolerances: many cheap iterations in place of few Newton steps.

Where the batch shares H, A and C, one inverse serves all problems, and an iteration is a few matrix products. What
ADMM only suspects, the augmented Lagrangian finds out: the shift of a problem that seems infeasible, by phase SHIFT,
after which the iterations go on with the shifted sides; and all of a problem that seems unbounded, or whose matrix is
not positive definite.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from .. import numbers
from ..interface import Answer, Options, Rows, Vectors
from ..numbers import RUNNING, Status
from .advance import Measure, Point, Posed, advance
from .forward import blank_answer, usable
from .forward import forward as augmented_lagrangian
from .multipliers import settle_multipliers
from .products import Batched, Matrices
from .scaling import Scaling, measure_scaling
from .search import find_shift
from .splitting import Metric, Operators, operators


class Steps(NamedTuple):
    """What a backend may have of its own."""

    operators: Callable[[Matrices, Metric, Tensor], Operators]
    advance: Callable[[Point, Posed, Matrices, Operators, Options, int], tuple[Point, Measure]]


REFERENCE = Steps(operators, advance)


def forward(rows: Rows, options: Options, start: Vectors | None = None, steps: Steps = REFERENCE) -> Answer:
    """Solves each problem, or the closest feasible one; ``options.max_iter`` and the answer count iterations."""
    answer = blank_answer(rows)
    keep = usable(rows).nonzero().squeeze(-1)
    if len(keep):
        matrices = Matrices.of(rows, options.mixed)
        scaling = measure_scaling(matrices, rows.g, rows.lo, rows.hi, options.equilibrate)
        Splitting.of(rows, options, answer, matrices, scaling, start, steps, keep).solve(
            0 if start else numbers.ADMM_CHECK
        )
        settle_multipliers(answer, rows, matrices, scaling, options)
    return answer


def approach(rows: Rows, options: Options, steps: Steps = REFERENCE) -> Vectors:
    """Where a few iterations lead, for the augmented Lagrangian to begin there; nothing here asks the device."""
    matrices = Matrices.of(rows, options.mixed)
    scaling = measure_scaling(matrices, rows.g, rows.lo, rows.hi, options.equilibrate)
    everything = torch.arange(rows.batch, device=rows.g.device)
    splitting = Splitting.of(rows, options, blank_answer(rows), matrices, scaling, None, steps, everything)
    first, *others = numbers.ADMM_APPROACH
    at = splitting.advance(first)
    for count in others:
        splitting.move_rho(at)
        at = splitting.advance(count)
    return Vectors(*(t.nan_to_num(0.0, 0.0, 0.0) for t in splitting.st.vectors))


@dataclass
class State(Batched):
    """The problems that are iterated."""

    index: Tensor  # [B] the problem's place in the caller's batch
    posed: Posed
    point: Point
    rho: Tensor  # [B|1, 1] the penalty, scaled
    calm: Tensor  # [B] the thresholds of suspicion are divided by it, less after each false alarm
    open: Tensor  # [B] bool, whether the problem has not ended
    settled: Tensor  # [B] bool, whether there is a point
    moved: Tensor  # [B] bool, whether the sides have a shift
    shifted: Tensor  # [B] bool, whether the start has one, which may still be one
    searching: Tensor  # [B] Newton steps in the search of a shift

    @classmethod
    def begin(cls, rows: Rows, matrices: Matrices, scaling: Scaling, start: Vectors | None) -> State:
        """At zero, or at a start."""
        lo, hi = (t.expand(rows.batch, -1) for t in (rows.lo, rows.hi))
        point = Point.begin(rows, matrices, start)
        no = torch.zeros(rows.batch, dtype=torch.bool, device=lo.device)
        return cls(
            index=torch.arange(rows.batch, device=lo.device),
            posed=Posed(rows.g, lo, hi, lo.new_zeros(1, rows.m), scaling),
            point=point,
            rho=lo.new_full((1 if rows.share_matrices else rows.batch, 1), numbers.ADMM_RHO),
            calm=lo.new_ones(rows.batch),
            open=~no,
            settled=no if start is None else (start.x != 0).any(-1) | (start.z != 0).any(-1),
            moved=no,
            shifted=no if start is None else (start.s != 0).any(-1),
            searching=torch.zeros_like(no, dtype=torch.long),
        )

    @property
    def vectors(self) -> Vectors:
        """The present iterates."""
        return Vectors(self.point.x, self.point.z, self.posed.s.expand_as(self.point.z))


@dataclass
class Splitting:
    """The solve of a batch, from which problems leave as they end."""

    rows: Rows  # of the caller's batch
    options: Options
    answer: Answer  # of the same
    st: State
    matrices: Matrices
    metric: Metric
    steps: Steps
    by: Operators
    made: int = 0  # iterations
    checks: int = 0

    @classmethod
    def of(
        cls,
        rows: Rows,
        options: Options,
        answer: Answer,
        matrices: Matrices,
        scaling: Scaling,
        start: Vectors | None,
        steps: Steps,
        keep: Tensor,  # [.] the problems that are solved
    ) -> Splitting:
        """The solve at its beginning."""
        metric = Metric.of(rows.lo, rows.hi, scaling, rows.share_matrices)
        st, some = State.begin(rows, matrices, scaling, start), matrices
        if len(keep) < rows.batch:
            st, metric, some = st.take(keep), metric.take(keep), matrices.take(keep)
        return cls(rows, options, answer, st, some, metric, steps, steps.operators(some, metric, st.rho))

    def solve(self, count: int) -> None:
        """Iterates until each problem has ended, and writes the answers; so many times before the first look."""
        at = self.advance(min(count, self.options.max_iter))
        while True:
            st, status = self.st, self.verdict(at)
            iterations = self.made + st.searching
            ended = st.open & (status != RUNNING)
            self.write(ended, Answer(*st.vectors, status, iterations, at.primal, at.dual, at.gap))
            suspected = st.open & ~ended & (st.shifted | self.seems_infeasible(at))
            lost = st.open & ~ended & ~suspected & self.is_lost(at)
            st.open = st.open & ~(ended | self.hand_over(lost) | self.shift(suspected))
            running = st.open.nonzero().squeeze(-1)
            if not len(running):
                return
            if len(running) <= (1 - numbers.COMPACT_SHARE) * len(st.index):
                at = at.take(running)
                for name in ("st", "matrices", "metric", "by"):
                    setattr(self, name, getattr(self, name).take(running))
            if suspected.any():  # the others wait for what is now next to new sides
                at = self.advance(0)
                continue
            if self.checks and math.log2(self.checks).is_integer():
                self.move_rho(at)
            at = self.advance(min(numbers.ADMM_CHECK, self.options.max_iter - self.made))

    def advance(self, count: int) -> Measure:
        """Some iterations, and where they lead."""
        st = self.st
        st.point, at = self.steps.advance(st.point, st.posed, self.matrices, self.by, self.options, count)
        if count:
            st.settled = torch.ones_like(st.settled)
            self.made, self.checks = self.made + count, self.checks + 1
        return at

    def verdict(self, at: Measure) -> Tensor:
        """The status of each problem: [B], RUNNING where it goes on."""
        unsolved = RUNNING if self.made < self.options.max_iter else Status.MAX_ITERATIONS
        solved = torch.where(self.st.moved, Status.SOLVED_CLOSEST_FEASIBLE, Status.SOLVED)
        return torch.where(self.st.settled & ~self.st.shifted & at.hold(), solved, unsolved)

    def write(self, where: Tensor, found: Answer) -> None:
        """Writes what was found of the problems [B] bool."""
        for whole, part in zip(self.answer, found, strict=True):
            whole[self.st.index[where]] = part[where]

    def seems_infeasible(self, at: Measure) -> Tensor:
        """Whether the increment v of the multipliers proves that no x within some reach satisfies the rows.

        An x that does has ``(G'v)'x <= sum max(lo v, hi v)``.
        """
        reach = numbers.ADMM_REACH * at.far.clamp(min=1.0) / self.st.calm
        return (at.support < -reach * at.pull) & (at.primal_worst > 1) & ~self.st.moved

    def is_lost(self, at: Measure) -> Tensor:
        """Whether there is no factor, x is not finite, or seems to move along a ray: down, flatly, and to no side."""
        threshold = numbers.ADMM_RAY * at.stride
        ray = (at.slope < -threshold) & (torch.maximum(at.curvature, at.nearing) <= threshold) & (at.dual_worst > 1)
        return ray | ~at.far.isfinite() | self.by.failed

    def hand_over(self, lost: Tensor) -> Tensor:
        """Has the augmented Lagrangian solve problems [B] bool, which have ended then."""
        if lost.any():
            index = self.st.index[lost]
            found = augmented_lagrangian(self.rows.take(index), self.options)
            found.iterations.add_(self.made + self.st.searching[lost])
            for whole, part in zip(self.answer, found, strict=True):
                whole[index] = part
        return lost

    def shift(self, suspected: Tensor) -> Tensor:
        """Seeks the shifts of problems [B] bool and moves their sides; which have ended, as INFEASIBLE: [B] bool."""
        if not suspected.any():
            return suspected
        st, posed, part = self.st, self.st.posed, suspected.nonzero().squeeze(-1)
        rows = self.rows.take(st.index[part])._replace(lo=posed.lo[part], hi=posed.hi[part])
        scaling = posed.scaling.take(part)
        found = find_shift(rows, st.point.x[part], st.calm[part], self.matrices.take(part), scaling, self.options)
        sides = (getattr(posed, t).expand_as(posed.lo) for t in ("lo", "hi", "s"))
        lo, hi, s = (t.index_copy(0, part, new) for t, new in zip(sides, (found.lo, found.hi, found.s), strict=True))
        st.posed = replace(posed, lo=lo, hi=hi, s=s)
        st.point = replace(st.point, v=st.point.v.clamp(lo, hi))
        st.calm = st.calm.index_copy(0, part, found.calm)
        st.searching = st.searching.index_add(0, part, found.steps)
        st.moved, st.shifted = (s != 0).any(-1), torch.zeros_like(st.shifted)
        if found.s.any():  # rows have become equalities
            self.metric = Metric.of(lo, hi, posed.scaling, self.rows.share_matrices)
            self.by = self.steps.operators(self.matrices, self.metric, st.rho)
        ended = torch.zeros_like(suspected).index_copy(0, part, found.status != RUNNING)
        for name, whole in self.answer._asdict().items():
            value = self.made + found.steps if name == "iterations" else getattr(found, name)
            whole[st.index[ended]] = value[ended[part]]
        return ended

    def move_rho(self, at: Measure) -> None:
        """Has rho balance the residuals, each next to its terms; where problems share it, those of most of them."""
        st, factor = self.st, at.balance.sqrt().unsqueeze(-1)
        if len(st.rho) == 1:
            factor = torch.where(st.open.unsqueeze(-1), factor, torch.nan)
            factor = factor.nanquantile(numbers.ADMM_RHO_SHARE, 0, keepdim=True)
        rho = (st.rho * factor).clamp(1 / numbers.ADMM_RHO_RANGE, numbers.ADMM_RHO_RANGE)
        apart = torch.maximum(rho / st.rho, st.rho / rho) >= numbers.ADMM_RHO_CHANGE
        st.rho = torch.where(apart, rho, st.rho)
        self.by = self.steps.operators(self.matrices, self.metric, st.rho)
