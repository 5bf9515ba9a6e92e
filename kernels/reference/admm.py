"""The forward solve by ADMM, for modest tolerances: many cheap iterations in place of few Newton steps.

Where the batch shares H, A and C, one inverse serves all problems, and an iteration is a few matrix products. What
ADMM only suspects, the augmented Lagrangian finds out: the shift of a problem that seems infeasible, by phase SHIFT,
after which the iterations go on with the shifted sides; and all of a problem that seems unbounded, or whose matrix is
not positive definite.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from .. import numbers
from ..interface import Answer, Options, Rows, Vectors
from ..numbers import RUNNING, Status
from .forward import blank_answer, usable
from .forward import forward as augmented_lagrangian
from .multipliers import settle_multipliers
from .products import Batched, Matrices, dot, largest
from .residuals import Residuals, residuals
from .scaling import Scaling, measure_scaling
from .search import find_shift
from .splitting import Metric, Operators, Way, iterate

Iterate = Callable[..., Way]  # splitting.iterate, or another implementation


def forward(rows: Rows, options: Options, start: Vectors | None = None, iterate: Iterate = iterate) -> Answer:
    """Solves each problem, or the closest feasible one; ``options.max_iter`` and the answer count iterations."""
    answer = blank_answer(rows)
    keep = usable(rows).nonzero().squeeze(-1)
    if len(keep):
        matrices = Matrices.of(rows, options.mixed)
        scaling = measure_scaling(matrices, rows.g, rows.lo, rows.hi, options.equilibrate)
        Splitting.of(rows, options, answer, matrices, scaling, start, iterate, keep).solve()
        settle_multipliers(answer, rows, matrices, scaling, options)
    return answer


def approach(rows: Rows, options: Options, iterate: Iterate = iterate) -> Vectors:
    """Where a few iterations lead, for the augmented Lagrangian to begin there; nothing here asks the device."""
    answer = blank_answer(rows)
    matrices = Matrices.of(rows, options.mixed)
    scaling = measure_scaling(matrices, rows.g, rows.lo, rows.hi, options.equilibrate)
    everything = torch.arange(rows.batch, device=rows.g.device)
    splitting = Splitting.of(rows, options, answer, matrices, scaling, None, iterate, everything)
    for count in numbers.ADMM_APPROACH:
        at = splitting.measure()
        if splitting.checks:
            splitting.move_rho(at)
        splitting.step(at, count)
    return Vectors(*(t.nan_to_num(0.0, 0.0, 0.0) for t in splitting.point))


@dataclass
class State(Batched):
    """The running problems."""

    index: Tensor  # [B] the problem's place in the caller's batch
    g: Tensor  # [B|1, n]
    lo: Tensor  # [B, m]
    hi: Tensor  # [B, m]
    s: Tensor  # [B, m]
    x: Tensor  # [B, n]
    z: Tensor  # [B, m]
    v: Tensor  # [B, m] what stands for G x, within the sides
    dx: Tensor  # [B, n] by how much the last iterations have moved x
    dz: Tensor  # [B, m] and z
    rho: Tensor  # [B|1, 1] the penalty, scaled
    calm: Tensor  # [B] the thresholds of suspicion are divided by it, less after each false alarm
    shifted: Tensor  # [B] bool, whether the start has a shift, which may still be one
    settled: Tensor  # [B] bool, whether there is a point
    searching: Tensor  # [B] Newton steps in the search of a shift

    @classmethod
    def begin(cls, rows: Rows, matrices: Matrices, start: Vectors | None) -> State:
        """The first iterate: zero, or a start."""
        new, batch = rows.g.new_zeros, rows.batch
        x, z, s = start or Vectors(new(batch, rows.n), new(batch, rows.m), new(batch, rows.m))
        lo, hi = (t.expand(batch, -1) for t in (rows.lo, rows.hi))
        return cls(
            index=torch.arange(batch, device=x.device),
            g=rows.g,
            lo=lo,
            hi=hi,
            s=torch.zeros_like(s),
            x=x,
            z=z,
            v=matrices.rows(x).clamp(lo, hi),
            dx=torch.zeros_like(x),
            dz=torch.zeros_like(z),
            rho=new(1 if rows.share_matrices else batch, 1) + numbers.ADMM_RHO,
            calm=new(batch) + 1,
            shifted=(s != 0).any(-1),
            settled=(x != 0).any(-1) | (z != 0).any(-1),
            searching=torch.zeros(batch, dtype=torch.long, device=x.device),
        )


@dataclass
class Measure(Residuals):
    """Where a problem stands."""

    Hx: Tensor  # [B, n]
    Gx: Tensor  # [B, m]
    Gz: Tensor  # [B, n] G'z


@dataclass
class Splitting:
    """The solve of a batch, from which problems leave as they end."""

    rows: Rows  # of the caller's batch
    options: Options
    answer: Answer  # of the same
    st: State
    matrices: Matrices
    scaling: Scaling
    metric: Metric
    by: Operators
    iterate: Iterate
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
        iterate: Iterate,
        keep: Tensor,  # [.] the problems that are solved
    ) -> Splitting:
        """The solve at its beginning."""
        st, metric = State.begin(rows, matrices, start).take(keep), Metric.of(rows, scaling).take(keep)
        some = matrices.take(keep)
        by = Operators.of(some, metric, st.rho)
        return cls(rows, options, answer, st, some, scaling.take(keep), metric, by, iterate)

    def solve(self) -> None:
        """Iterates until each problem has ended, and writes the answers."""
        while True:
            at = self.measure()
            status = self.verdict(at)
            iterations = self.made + self.st.searching
            self.write(status != RUNNING, Answer(*self.point, status, iterations, at.primal, at.dual, at.gap))
            suspected = (status == RUNNING) & (self.st.shifted | self.seems_infeasible(at))
            lost = (status == RUNNING) & ~suspected & self.is_lost(at)
            ended = (status != RUNNING) | self.hand_over(lost) | self.shift(suspected)
            running = (~ended).nonzero().squeeze(-1)
            if not len(running):
                return
            if len(running) < len(ended):
                at = at.take(running)
                for name in ("st", "matrices", "scaling", "metric", "by"):
                    setattr(self, name, getattr(self, name).take(running))
            if suspected.any():  # the others wait for what is now next to new sides
                continue
            if self.checks and math.log2(self.checks).is_integer():
                self.move_rho(at)
            self.step(at, min(numbers.ADMM_CHECK, self.options.max_iter - self.made))

    @property
    def point(self) -> Vectors:
        """The present iterates."""
        return Vectors(self.st.x, self.st.z, self.st.s)

    def measure(self) -> Measure:
        """The residuals, and the products that they are made of."""
        st = self.st
        Hx, Gx, Gz = self.matrices.hessian(st.x), self.matrices.rows(st.x), self.matrices.columns(st.z)
        found = residuals(st.x, st.z, Hx, Gx, Gz, st.g, st.s, st.lo, st.hi, self.scaling, self.options)
        return Measure(**vars(found), Hx=Hx, Gx=Gx, Gz=Gz)

    def verdict(self, at: Measure) -> Tensor:
        """The status of each problem: [B], RUNNING where it goes on."""
        moved = (self.st.s != 0).any(-1)
        unsolved = RUNNING if self.made < self.options.max_iter else Status.MAX_ITERATIONS
        solved = torch.where(moved, Status.SOLVED_CLOSEST_FEASIBLE, Status.SOLVED)
        return torch.where(self.st.settled & ~self.st.shifted & at.hold(), solved, unsolved)

    def write(self, where: Tensor, found: Answer) -> None:
        """Writes what was found of the problems [B] bool."""
        for whole, part in zip(self.answer, found, strict=True):
            whole[self.st.index[where]] = part[where]

    def seems_infeasible(self, at: Measure) -> Tensor:
        """Whether the increment v of the multipliers proves that no x within some reach satisfies the rows.

        An x that does has ``(G'v)'x <= sum max(lo v, hi v)``.
        """
        st, D = self.st, self.scaling.D
        support = torch.where(st.dz == 0, 0.0, st.dz * torch.where(st.dz > 0, st.hi, st.lo)).sum(-1)
        reach = numbers.ADMM_REACH * largest(st.x / D).clamp(min=1.0) / st.calm
        certain = support < -reach * (D * self.matrices.columns(st.dz).abs()).sum(-1)
        return certain & (at.primal_worst > 1) & (st.s == 0).all(-1)

    def is_lost(self, at: Measure) -> Tensor:
        """Whether there is no factor, x is not finite, or seems to move along a ray: down, flatly, and to no side."""
        st, c, D = self.st, self.scaling.c, self.scaling.D
        threshold = numbers.ADMM_RAY * largest(st.dx / D)
        Gd = self.scaling.E * self.matrices.rows(st.dx)
        approach = torch.where(st.hi.isinf(), 0.0, Gd.clamp(min=0)) - torch.where(st.lo.isinf(), 0.0, Gd.clamp(max=0))
        curvature = largest(c * D * self.matrices.hessian(st.dx))
        falls = c.squeeze(-1) * dot(st.g.expand_as(st.dx), st.dx) < -threshold
        ray = falls & (torch.maximum(curvature, largest(approach)) <= threshold) & (at.dual_worst > 1)
        return ray | ~st.x.isfinite().all(-1) | self.by.failed

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
        st, part = self.st, suspected.nonzero().squeeze(-1)
        rows = self.rows.take(st.index[part])._replace(lo=st.lo[part], hi=st.hi[part])
        found = find_shift(
            rows, st.x[part], st.calm[part], self.matrices.take(part), self.scaling.take(part), self.options
        )
        for name in ("lo", "hi", "s", "calm"):
            setattr(st, name, getattr(st, name).index_copy(0, part, getattr(found, name)))
        st.searching = st.searching.index_add(0, part, found.steps)
        st.v, st.shifted = st.v.clamp(st.lo, st.hi), torch.zeros_like(st.shifted)
        st.dz = st.dz.index_fill(0, part, 0.0)
        ended = torch.zeros_like(suspected).index_copy(0, part, found.status != RUNNING)
        for name, whole in self.answer._asdict().items():
            value = self.made + found.steps if name == "iterations" else getattr(found, name)
            whole[st.index[ended]] = value[ended[part]]
        return ended

    def move_rho(self, at: Measure) -> None:
        """Has rho balance the residuals, each next to its terms; where problems share it, those of most of them."""
        st, c, D, E = self.st, self.scaling.c, self.scaling.D, self.scaling.E
        primal = relative(*(largest(E * t) for t in (at.Gx - st.v, at.Gx, st.v)))
        dual = relative(*(largest(c * D * t) for t in (at.Hx + st.g + at.Gz, at.Hx, at.Gz, st.g)))
        factor = (primal / dual).sqrt()
        if len(st.rho) == 1:
            factor = factor.nanquantile(numbers.ADMM_RHO_SHARE, 0, keepdim=True)
        rho = st.rho * factor.unsqueeze(-1)
        rho = rho.clamp(1 / numbers.ADMM_RHO_RANGE, numbers.ADMM_RHO_RANGE)
        apart = torch.maximum(rho / st.rho, st.rho / rho) >= numbers.ADMM_RHO_CHANGE
        st.rho = torch.where(apart, rho, st.rho)
        self.by = Operators.of(self.matrices, self.metric, st.rho)

    def step(self, at: Measure, count: int) -> None:
        """Some iterations, from the measured point on."""
        st, dtype = self.st, self.by.inverse.dtype
        dual, z, v, lo, hi = (
            t.to(dtype) for t in (at.Hx + st.g + at.Gz, st.z, st.v - at.Gx, st.lo - at.Gx, st.hi - at.Gx)
        )
        way = self.iterate(self.matrices.single or self.matrices, self.by, dual, z, v, lo, hi, count)
        st.x, st.v = st.x + way.dx, (at.Gx + way.v).clamp(st.lo, st.hi)
        st.z = torch.where(way.dz == -z, 0.0, st.z + way.dz)  # not the rounding error of z where a row is inactive
        st.dx, st.dz = way.dx.double(), way.dz.double()
        st.settled = torch.ones_like(st.settled)
        self.made, self.checks = self.made + count, self.checks + 1


def relative(residual: Tensor, *terms: Tensor) -> Tensor:
    """A residual next to the largest of its terms: [B]."""
    largest_term = torch.stack(torch.broadcast_tensors(*terms)).amax(0)
    found = residual / largest_term
    return torch.where(largest_term > 0, found, 0.0).clamp(min=numbers.ADMM_RESIDUAL)
