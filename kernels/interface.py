"""What every implementation of the solver takes and returns: arrays of rows in, vectors out.

A *row* is one line of ``lo <= G x <= hi``. The rows stand in this order: the ``n_eq`` equalities (``A``, ``lo = hi``),
the ``n_in`` inequalities (``C``), and, where ``x`` is bounded, ``n`` identity rows that are never stored. Every array
has a leading batch dimension of ``B``, or of 1 where it is shared by the batch.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from .numbers import Status

__all__ = ["Adjoint", "Answer", "Kernels", "Options", "Rows", "Status", "Vectors"]


class Rows(NamedTuple):
    """A batch of QPs: minimise ``1/2 x'Hx + g'x`` subject to ``lo <= G x <= hi``, ``G`` the rows of A, C and I."""

    H: Tensor | None  # [B|1, n, n] symmetric, None for an LP
    g: Tensor  # [B|1, n]
    A: Tensor  # [B|1, n_eq, n]
    C: Tensor  # [B|1, n_in, n]
    lo: Tensor  # [B|1, m], m = n_eq + n_in (+ n where x is bounded), -inf allowed
    hi: Tensor  # [B|1, m], +inf allowed
    w: Tensor | None  # [B|1, m], > 0, of the shifts: an infeasible problem minimises sum w_i s_i^2; None for 1
    hard: Tensor | None  # [B|1, m] bool: rows that are never shifted, whose w is any; None for none
    batch: int  # B

    @property
    def n(self) -> int:
        return self.g.shape[-1]

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

    @property
    def share_matrices(self) -> bool:
        """Whether one H, one A and one C are those of all problems."""
        return all(M is None or M.shape[0] == 1 for M in (self.H, self.A, self.C))

    def take(self, index: Tensor) -> Rows:
        """The problems ``index``; what is shared stays as it is."""
        *arrays, _ = self
        taken = [t if t is None or t.shape[0] == 1 else t[index] for t in arrays]
        return Rows(*taken, len(index))  # type: ignore[call-arg, arg-type]

    def weights(self) -> tuple[Tensor, Tensor]:
        """W and hard, also where they are not given: [B|1, m] each."""
        w = torch.ones_like(self.lo[:1]) if self.w is None else self.w
        return w, torch.zeros_like(w, dtype=torch.bool) if self.hard is None else self.hard


class Options(NamedTuple):
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
    method: str  # "alm", the augmented Lagrangian, "admm", or "auto": ADMM first where that is faster


class Vectors(NamedTuple):
    """A point, or the cotangents of one."""

    x: Tensor  # [B, n]
    z: Tensor  # [B, m]
    s: Tensor  # [B, m]


class Answer(NamedTuple):
    """What the forward returns: vectors in the units of the data."""

    x: Tensor  # [B, n]
    z: Tensor  # [B, m], Hx + g + G'z = 0, z > 0 pushes against hi, z < 0 against lo
    s: Tensor  # [B, m], lo + s <= G x <= hi + s, of least weighted norm
    status: Tensor  # [B] int64, values of Status
    iterations: Tensor  # [B] int64, Newton steps
    primal: Tensor  # [B], max |violation of the shifted rows|
    dual: Tensor  # [B], max |Hx + g + G'z|
    gap: Tensor  # [B], sum of |z_i| times the distance of row i from the side that z_i pushes against

    @property
    def point(self) -> Vectors:
        return Vectors(self.x, self.z, self.s)


class Adjoint(NamedTuple):
    """What the backward returns: vectors from which the gradient of every array of the rows is an outer product.

    ``dL/dG = -(z b_x' + p x' + ws b_s' - q_z b_z')``, ``dL/dg = -b_x``, ``dL/dH = -(b_x x' + x b_x')/2``; the active
    side of a row has the gradient ``p``, and ``w dL/dw = q_z (G b_z) - ws (G b_s)``.
    """

    b_x: Tensor  # [B, n]
    p: Tensor  # [B, m]
    z: Tensor  # [B, m] the multipliers, those of the shifted rows of least norm
    ws: Tensor  # [B, m] w s, and the multipliers by which hard rows press on the shift
    b_s: Tensor  # [B, n], zero where the problem is feasible
    q_z: Tensor  # [B, m], zero where the problem is feasible
    b_z: Tensor  # [B, n], zero where the problem is feasible


class Kernels(Protocol):
    """An implementation: a module or object with these three functions."""

    def obstacle(self, rows: Rows, mixed: bool) -> str:
        """Why it cannot take such problems, as advice; empty where it can."""
        ...

    def forward(self, rows: Rows, options: Options, start: Vectors | None) -> Answer:
        """The answer to each problem, begun at a previous one where there is one."""
        ...

    def adjoint(self, rows: Rows, at: Vectors, grad: Vectors, options: Options) -> Adjoint:
        """The adjoint vectors at an answer, for cotangents of it."""
        ...
