"""Derivatives of the solve, of its adjoint and of the adjoint's adjoint, all by one linear solve.

At a solution the rows split into ``W``, those that an infeasible problem shifts (and all its equalities), ``K``, the
other active ones, and the rest. The optimality conditions are, for the unknowns x, beta and z_K,

    H x + W'W beta + K'z_K = -g,   W'W x = W'h_W,   K x = h_K,   z_W = W beta,   s = W x - h_W

(Bambade, Schramm, Taylor, Carpentier, ICLR 2024). Their matrix is symmetric: one operator, the adjoint of the kernels,
gives the derivatives in both directions, and being a linear solve its own derivatives need no other. W and K are held
fixed throughout: where a constraint is weakly active, the derivatives are those with that constraint inactive.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from .adjoint import outer, outer_symmetric
from .kernels.interface import Adjoint, Rows


class Point(NamedTuple):
    """The part of an answer that the conditions are linearised at."""

    x: Tensor  # [B, n]
    z: Tensor  # [B, m]
    s: Tensor  # [B, m]
    status: Tensor  # [B]


Operator = Callable[[Rows, Point, Tensor, Tensor, Tensor], Adjoint]


class Change(NamedTuple):
    """A change of the matrices: tangents of H, A and C."""

    H: Tensor | None  # [B|1, n, n]
    A: Tensor  # [B|1, n_eq, n]
    C: Tensor  # [B|1, n_in, n]

    def hessian(self, x: Tensor) -> Tensor:
        return torch.zeros_like(x) if self.H is None else _product(self.H, x)

    def rows(self, x: Tensor, m: int) -> Tensor:
        """``dG x``, with zeros for the identity rows: [B, n] -> [B, m]."""
        parts = [_product(self.A, x), _product(self.C, x)]
        return torch.cat([*parts, x.new_zeros(x.shape[0], m - self.A.shape[-2] - self.C.shape[-2])], -1)

    def columns(self, z: Tensor) -> Tensor:
        """``dG'z``: [B, m] -> [B, n]."""
        n_eq, n_in = self.A.shape[-2], self.C.shape[-2]
        return _product(self.A.mT, z[..., :n_eq]) + _product(self.C.mT, z[..., n_eq : n_eq + n_in])


def _product(M: Tensor, x: Tensor) -> Tensor:
    return (M @ x.unsqueeze(-1)).squeeze(-1)


class Linearized:
    """The conditions linearised at a point, and the operator that solves them."""

    def __init__(self, rows: Rows, point: Point, operator: Operator, weighted: bool = False):
        self.rows, self.point, self.operator, self.weighted = rows, point, operator, weighted
        shifted = point.s != 0
        self.infeasible = shifted.any(-1, keepdim=True).to(point.s.dtype)
        self.W = self.infeasible * ((rows.lo == rows.hi) | shifted)  # [B, m]

    def solve(self, x_: Tensor, z_: Tensor, s_: Tensor) -> Adjoint:
        """The adjoint vectors for cotangents of x, z and s."""
        return self.operator(self.rows, self.point, x_, z_, s_)

    def fit(self, r: Tensor) -> tuple[Tensor, Tensor]:
        """``W eta`` [B, m] and the eta [B, n] with ``W'W eta = r``, for r [B, n] in the range of W'.

        Raises:
            NotImplementedError: the shifts have weights; first derivatives in reverse mode need no fit.
        """
        if self.weighted:
            raise NotImplementedError("with weights of the shifts there is reverse mode only, and once")
        none = torch.zeros_like(self.point.z)
        rows = replace(self.rows, H=None)
        fitted = self.operator(rows, self.point._replace(z=none), self.infeasible * r, none, none)
        return fitted.p, fitted.b_s

    def multipliers(self) -> tuple[Tensor, Tensor]:
        """The multipliers, those of W of least norm, and the beta of these."""
        z = self.point.z
        W_z = self.W * z
        G_z = Change(None, self.rows.A, self.rows.C).columns(W_z)
        if self.rows.bounded:
            G_z = G_z + W_z[..., -self.rows.n :]
        fitted, beta = self.fit(G_z)
        return fitted + (1 - self.W) * z, beta

    def pullback(self, x_: Tensor, z_: Tensor, s_: Tensor) -> Adjoint:
        """As :meth:`solve`, with multipliers that can be differentiated again."""
        z, beta = self.multipliers()
        return replace(self.solve(x_, z_, s_), z=z, ws=self.point.s, b_z=beta)

    def pushforward(self, change: Change, dg: Tensor, dh: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The tangents of x, z and s, for those of the matrices, of g and of the active sides."""
        (x, _, s, _), m = self.point, self.rows.m
        z, beta = self.multipliers()
        moved, _ = self.fit(change.columns(s))
        x_ = -(change.hessian(x) + dg + change.columns(z))
        v = self.solve(x_, dh - change.rows(x, m) - moved, -self.W * change.rows(beta, m))
        return v.b_x, v.p, -(v.q_z + moved)

    def pullback_of_solve(
        self, a: Adjoint, b_x_: Tensor, p_: Tensor, b_s_: Tensor, q_z_: Tensor
    ) -> tuple[Tensor | None, Tensor, Tensor, Tensor, Tensor, Tensor]:
        """The cotangents of H, A, C, x_, z_ and s_, for those of the vectors ``a`` of :meth:`solve`."""
        moved, _ = self.fit(b_s_)
        v = self.solve(b_x_, p_ + moved, -self.W * q_z_)
        s_ = moved - v.q_z
        left, right = torch.stack([a.p, v.p, s_, -a.q_z], 1), torch.stack([v.b_x, a.b_x, a.b_s, v.b_s], 1)
        H, A, C, n_eq = self.rows.H, self.rows.A, self.rows.C, self.rows.n_eq
        return (
            None if H is None else outer_symmetric(v.b_x, a.b_x, H),
            outer(left[..., :n_eq], right, A),
            outer(left[..., n_eq : n_eq + self.rows.n_in], right, C),
            v.b_x,
            v.p,
            s_,
        )

    def pushforward_of_solve(
        self, a: Adjoint, change: Change, dx_: Tensor, dz_: Tensor, ds_: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The tangents of b_x, p, b_s and q_z, for those of the matrices and of the cotangents."""
        m = self.rows.m
        moved, _ = self.fit(change.columns(a.q_z))
        v = self.solve(
            dx_ - change.hessian(a.b_x) - change.columns(a.p),
            dz_ - change.rows(a.b_x, m) + moved,
            self.W * (ds_ - change.rows(a.b_s, m)),
        )
        return v.b_x, v.p, v.b_s, v.q_z - moved
