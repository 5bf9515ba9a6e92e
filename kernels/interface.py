"""What every implementation of the solver takes and returns: arrays of rows in, vectors out.

A *row* is one line of ``lo <= G x <= hi``. The rows stand in this order: the ``n_eq`` equalities (``A``, ``lo = hi``),
the ``n_in`` inequalities (``C``), and, where ``x`` is bounded, ``n`` identity rows that are never stored. Every array
has a leading batch dimension of ``B``, or of 1 where it is shared by the batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol

from torch import Tensor

MIXED_STEPS = 200  # Newton steps after which mixed precision is given up, and double takes over


class Status(IntEnum):
    """How the solve of one problem ended."""

    SOLVED = 0
    SOLVED_CLOSEST_FEASIBLE = 1
    MAX_ITERATIONS = 2
    INFEASIBLE = 3
    UNBOUNDED = 4
    NONFINITE_INPUT = 5
    NUMERICAL_ERROR = 6


@dataclass(frozen=True)
class Rows:
    """A batch of QPs: minimise ``1/2 x'Hx + g'x`` subject to ``lo <= G x <= hi``, ``G`` the rows of A, C and I."""

    H: Tensor | None  # [B|1, n, n] symmetric, None for an LP
    g: Tensor  # [B|1, n]
    A: Tensor  # [B|1, n_eq, n]
    C: Tensor  # [B|1, n_in, n]
    lo: Tensor  # [B|1, m], m = n_eq + n_in (+ n where x is bounded), -inf allowed
    hi: Tensor  # [B|1, m], +inf allowed
    w: Tensor  # [1, m], > 0, of the shifts: an infeasible problem minimises sum w_i s_i^2
    hard: Tensor  # [1, m] bool: rows that are never shifted
    batch: int  # B

    @property
    def n(self) -> int:
        return self.g.shape[-1]

    def take(self, index: Tensor) -> Rows:
        """The problems ``index``; what is shared stays as it is."""

        def pick(t: Tensor) -> Tensor:
            return t if t.shape[0] == 1 else t[index]

        H = None if self.H is None else pick(self.H)
        return Rows(
            H, pick(self.g), pick(self.A), pick(self.C), pick(self.lo), pick(self.hi), self.w, self.hard, len(index)
        )

    @property
    def m(self) -> int:
        return self.lo.shape[-1]

    @property
    def n_eq(self) -> int:
        return self.A.shape[-2]

    @property
    def n_in(self) -> int:
        return self.C.shape[-2]

    @property
    def bounded(self) -> bool:
        """Whether the identity rows are there."""
        return self.m > self.n_eq + self.n_in


@dataclass(frozen=True)
class Options:
    """Numbers that steer the solve; tolerances are in the units of the data."""

    eps_abs: float
    eps_rel: float
    max_iter: int
    mu_eq: float
    mu_in: float
    rho: float
    equilibrate: bool
    closest_feasible: bool
    mixed: bool  # the forward's factors in float32, refined; all else in float64


@dataclass(frozen=True)
class Start:
    """Where a warm start begins: a previous answer to similar problems."""

    x: Tensor  # [B, n]
    z: Tensor  # [B, m]
    s: Tensor  # [B, m]


@dataclass(frozen=True)
class Answer:
    """What the forward returns: vectors in the units of the data."""

    x: Tensor  # [B, n]
    z: Tensor  # [B, m], Hx + g + G'z = 0, z > 0 pushes against hi, z < 0 against lo
    s: Tensor  # [B, m], lo + s <= G x <= hi + s, of least weighted norm
    status: Tensor  # [B] int64, values of Status
    iterations: Tensor  # [B] int64, Newton steps, one Cholesky factorization each
    primal: Tensor  # [B], max |violation of the shifted rows|
    dual: Tensor  # [B], max |Hx + g + G'z|
    gap: Tensor  # [B], sum of |z_i| times the distance of row i from the side that z_i pushes against


@dataclass(frozen=True)
class Seeds:
    """Cotangents of the loss with respect to the answer."""

    x: Tensor  # [B, n]
    z: Tensor  # [B, m]
    s: Tensor  # [B, m]


@dataclass(frozen=True)
class Adjoint:
    """What the backward returns: vectors from which every parameter gradient is an outer product.

    ``dL/dG = -(z b_x' + p x' + ws b_s' - q_z b_z')``, ``dL/dg = -b_x``, ``dL/dH = -(b_x x' + x b_x')/2``; the active
    side of a row has the gradient ``p``.
    """

    b_x: Tensor  # [B, n]
    p: Tensor  # [B, m]
    z: Tensor  # [B, m] the multipliers, those of the shifted rows of least norm
    ws: Tensor  # [B, m] w s, and the multipliers by which hard rows press on the shift
    b_s: Tensor  # [B, n], zero where the problem is feasible
    q_z: Tensor  # [B, m], zero where the problem is feasible
    b_z: Tensor  # [B, n], zero where the problem is feasible


class Kernels(Protocol):
    """An implementation: a module or object with these two functions."""

    def forward(self, rows: Rows, options: Options, start: Start | None) -> Answer: ...

    def adjoint(self, rows: Rows, answer: Answer, seeds: Seeds, options: Options) -> Adjoint: ...
